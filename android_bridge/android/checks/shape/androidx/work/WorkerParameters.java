package androidx.work;

/** Not androidx's: see WorkManager of this folder. */
public final class WorkerParameters {}

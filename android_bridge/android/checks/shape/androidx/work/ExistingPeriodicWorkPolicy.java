package androidx.work;

/** Not androidx's: see WorkManager of this folder. */
public enum ExistingPeriodicWorkPolicy {
  KEEP,
  UPDATE
}

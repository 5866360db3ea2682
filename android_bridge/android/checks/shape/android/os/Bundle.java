package android.os;

/** Not Android's: see Context. */
public final class Bundle {}

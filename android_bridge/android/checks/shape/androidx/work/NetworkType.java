package androidx.work;

/** Not androidx's: see WorkManager of this folder. */
public enum NetworkType {
  NOT_REQUIRED,
  CONNECTED,
  UNMETERED
}

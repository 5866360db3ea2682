package androidx.work;

import android.content.Context;

/** Not androidx's: see WorkManager of this folder. */
public abstract class ListenableWorker {
  public ListenableWorker(Context context, WorkerParameters parameters) {}

  public void onStopped() {}

  public abstract static class Result {
    Result() {}

    public static Result success() {
      return new Said("success");
    }

    public static Result retry() {
      return new Said("retry");
    }
  }

  private static final class Said extends Result {
    private final String word;

    Said(String word) {
      this.word = word;
    }

    @Override
    public String toString() {
      return word;
    }
  }
}

package androidx.work;

import android.content.Context;

/** Not androidx's: see WorkManager of this folder. */
public abstract class Worker extends ListenableWorker {
  public Worker(Context context, WorkerParameters parameters) {
    super(context, parameters);
  }

  public abstract Result doWork();
}

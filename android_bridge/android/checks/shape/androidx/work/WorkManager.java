package androidx.work;

import android.content.Context;
import java.util.HashMap;
import java.util.Map;

/**
 * Not androidx's class: the public shape of WorkManager and its kin as far as TrainingWorker uses them, written from their
 * documentation, so that the worker compiles and its calls are seen where the library is not to be had.
 */
public final class WorkManager {
  private static final WorkManager ONLY = new WorkManager();

  public final Map<String, PeriodicWorkRequest> work = new HashMap<>();

  private WorkManager() {}

  public static WorkManager getInstance(Context context) {
    return ONLY;
  }

  public void enqueueUniquePeriodicWork(
      String name, ExistingPeriodicWorkPolicy existing, PeriodicWorkRequest request) {
    if (existing == ExistingPeriodicWorkPolicy.UPDATE || !work.containsKey(name)) {
      work.put(name, request);
    }
  }

  public void cancelUniqueWork(String name) {
    work.remove(name);
  }
}

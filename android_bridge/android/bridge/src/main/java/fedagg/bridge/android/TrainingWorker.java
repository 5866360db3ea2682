package fedagg.bridge.android;

import android.content.Context;
import androidx.work.Constraints;
import androidx.work.ExistingPeriodicWorkPolicy;
import androidx.work.NetworkType;
import androidx.work.PeriodicWorkRequest;
import androidx.work.WorkManager;
import androidx.work.Worker;
import androidx.work.WorkerParameters;
import fedagg.bridge.agent.DeviceAgent;
import java.util.concurrent.TimeUnit;

/**
 * Trains while the phone charges on a network that costs nothing. An application extends it, says how its agent is made,
 * and calls {@link #schedule} once.
 *
 * <p>WorkManager runs one at a time and stops it when a condition ends or after ten minutes; the agent then ends after the
 * batch under way, and the next run goes on there, in the middle of a round if need be. What was added while no worker runs
 * waits on the disk.
 */
public abstract class TrainingWorker extends Worker {
  /** A run's length: WorkManager's limit less what a last batch and poll may take. */
  static final double SECONDS = 8 * 60;

  private static final long EVERY_MINUTES = 15; // the shortest period that WorkManager takes

  private final Object lock = new Object();
  private DeviceAgent agent;
  private boolean stopped;

  protected TrainingWorker(Context context, WorkerParameters parameters) {
    super(context, parameters);
  }

  /** Opens the agent; called in WorkManager's thread, closed when the run ends. */
  protected abstract DeviceAgent open() throws Exception;

  /** Called when the agent was closed, or could not be opened: free what {@link #open} made. Does nothing by default. */
  protected void closed() {}

  /** Told what ended a run that could not be begun or finished; the next one tries again. Does nothing by default. */
  protected void failed(Exception error) {}

  /** Have WorkManager run {@code worker} again and again; a second call changes nothing. */
  public static void schedule(Context context, Class<? extends TrainingWorker> worker) {
    Constraints when =
        new Constraints.Builder().setRequiresCharging(true).setRequiredNetworkType(NetworkType.UNMETERED).build();
    PeriodicWorkRequest request =
        new PeriodicWorkRequest.Builder(worker, EVERY_MINUTES, TimeUnit.MINUTES).setConstraints(when).build();
    WorkManager.getInstance(context)
        .enqueueUniquePeriodicWork(worker.getName(), ExistingPeriodicWorkPolicy.KEEP, request);
  }

  /** No further runs; one under way is stopped. */
  public static void cancel(Context context, Class<? extends TrainingWorker> worker) {
    WorkManager.getInstance(context).cancelUniqueWork(worker.getName());
  }

  @Override
  public final Result doWork() {
    try (DeviceAgent opened = open()) {
      synchronized (lock) {
        agent = opened;
        if (stopped) {
          return Result.retry();
        }
      }
      opened.run(SECONDS);
      return Result.success();
    } catch (Exception error) {
      failed(error);
      return Result.retry();
    } finally {
      synchronized (lock) {
        agent = null;
      }
      closed();
    }
  }

  @Override
  public final void onStopped() {
    synchronized (lock) {
      stopped = true;
      if (agent != null) {
        agent.stop();
      }
    }
  }
}

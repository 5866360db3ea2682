package fedagg.bridge.android;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import android.content.Context;
import androidx.work.NetworkType;
import androidx.work.PeriodicWorkRequest;
import androidx.work.WorkManager;
import androidx.work.WorkerParameters;
import fedagg.bridge.agent.DeviceAgent;
import java.io.IOException;
import org.junit.jupiter.api.Test;

class TrainingWorkerTest {
  private static final Context CONTEXT = new Context() {};

  /** One whose agent cannot be opened. */
  public static final class Broken extends TrainingWorker {
    Exception told;
    int closed;

    public Broken(Context context, WorkerParameters parameters) {
      super(context, parameters);
    }

    @Override
    protected DeviceAgent open() throws Exception {
      throw new IOException("no room");
    }

    @Override
    protected void closed() {
      closed++;
    }

    @Override
    protected void failed(Exception error) {
      told = error;
    }
  }

  @Test
  void itIsScheduledOnceForChargingPhonesOnNetworksThatCostNothing() {
    WorkManager manager = WorkManager.getInstance(CONTEXT);
    TrainingWorker.schedule(CONTEXT, Broken.class);
    PeriodicWorkRequest first = manager.work.get(Broken.class.getName());
    TrainingWorker.schedule(CONTEXT, Broken.class);
    assertEquals(first, manager.work.get(Broken.class.getName()));
    assertEquals(Broken.class, first.worker);
    assertTrue(first.minutes >= 15); // WorkManager raises what is less, and would not run it as often as asked
    assertTrue(first.constraints.requiresCharging());
    assertEquals(NetworkType.UNMETERED, first.constraints.getRequiredNetworkType());
    TrainingWorker.cancel(CONTEXT, Broken.class);
    assertNull(manager.work.get(Broken.class.getName()));
  }

  @Test
  void anAgentThatCannotBeOpenedIsToldAndTriedAgain() {
    Broken worker = new Broken(CONTEXT, new WorkerParameters());
    assertEquals("retry", worker.doWork().toString());
    assertEquals("no room", worker.told.getMessage());
    assertEquals(1, worker.closed);
    worker.onStopped(); // without an agent
  }

  @Test
  void aRunEndsBeforeWorkManagerEndsIt() {
    assertTrue(TrainingWorker.SECONDS < 10 * 60);
  }
}

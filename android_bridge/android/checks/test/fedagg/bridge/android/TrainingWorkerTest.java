package fedagg.bridge.android;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import android.content.Context;
import androidx.work.NetworkType;
import androidx.work.PeriodicWorkRequest;
import androidx.work.WorkManager;
import androidx.work.WorkerParameters;
import fedagg.bridge.agent.AgentConfig;
import fedagg.bridge.agent.AgentListener;
import fedagg.bridge.agent.Batch;
import fedagg.bridge.agent.Bridge;
import fedagg.bridge.agent.DeviceAgent;
import fedagg.bridge.agent.Hyperparameters;
import fedagg.bridge.agent.OnDeviceTrainer;
import fedagg.bridge.agent.StepReport;
import fedagg.bridge.identity.TestIdentity;
import fedagg.bridge.kernels.DistillationCore;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TrainingWorkerTest {
  @TempDir Path home;
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

  /** One whose agent runs, and finds nobody at the parent's address. */
  private static final class Running extends TrainingWorker {
    final DistillationCore core = DistillationCore.open();
    final CountDownLatch open = new CountDownLatch(1);
    final Path home;
    final AtomicInteger closed = new AtomicInteger();
    volatile Exception told;

    Running(Path home) {
      super(CONTEXT, new WorkerParameters());
      this.home = home;
    }

    @Override
    protected DeviceAgent open() throws Exception {
      Still model = new Still();
      DeviceAgent agent =
          new DeviceAgent(
              home.resolve("state"), new AgentConfig("https://127.0.0.1:1"), TestIdentity.open(home), model, model, core,
              new AgentListener() {});
      open.countDown();
      return agent;
    }

    @Override
    protected void closed() {
      closed.incrementAndGet();
    }

    @Override
    protected void failed(Exception error) {
      told = error;
    }
  }

  /** A model and a bridge of one number that are never used. */
  private static final class Still implements OnDeviceTrainer, Bridge {
    @Override
    public byte[] digest() {
      return new byte[32];
    }

    @Override
    public int sampleFloats() {
      return 1;
    }

    @Override
    public int embeddingBytes() {
      return 1;
    }

    @Override
    public int classes() {
      return 2;
    }

    @Override
    public void encode(ByteBuffer samples, int rows, ByteBuffer codes) {}

    @Override
    public void decode(ByteBuffer codes, int rows, ByteBuffer samples) {}

    @Override
    public void logits(ByteBuffer samples, int rows, ByteBuffer out) {}

    @Override
    public StepReport step(Batch batch, Hyperparameters hyperparameters) {
      throw new UnsupportedOperationException("there is nothing to learn here");
    }

    @Override
    public byte[] save() {
      return new byte[0];
    }

    @Override
    public void load(byte[] state) {}

    @Override
    public void close() {}
  }

  @Test
  void aRunThatIsStoppedEndsWellAndFreesItsFolder() throws Exception {
    for (int run = 0; run < 2; run++) { // the second one finds the folder free
      Running worker = new Running(home);
      AtomicReference<Object> result = new AtomicReference<>();
      Thread work = new Thread(() -> result.set(worker.doWork()));
      work.start();
      assertTrue(worker.open.await(60, TimeUnit.SECONDS), () -> String.valueOf(worker.told));
      while (work.getState() != Thread.State.TIMED_WAITING) { // it rests between two tries to reach the parent
        assertNotEquals(Thread.State.TERMINATED, work.getState(), () -> "it has ended: " + worker.told);
        Thread.sleep(1);
      }
      worker.onStopped();
      work.join();
      assertEquals("success", result.get().toString());
      assertNull(worker.told, () -> String.valueOf(worker.told));
      assertEquals(1, worker.closed.get());
      worker.core.close();
    }
  }

  @Test
  void aWorkerThatIsStoppedBeforeItOpensRunsNothing() throws Exception {
    Running worker = new Running(home);
    worker.onStopped();
    assertEquals("retry", worker.doWork().toString());
    assertNull(worker.told, () -> String.valueOf(worker.told));
    assertEquals(1, worker.closed.get());
    worker.core.close();
  }

  @Test
  void aRunEndsBeforeWorkManagerEndsIt() {
    assertTrue(TrainingWorker.SECONDS < 10 * 60);
  }
}

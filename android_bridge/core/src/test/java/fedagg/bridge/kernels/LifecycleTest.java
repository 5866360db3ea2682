package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

class LifecycleTest {
  @Test
  void closingTwiceIsClosingOnce() {
    DistillationCore core = DistillationCore.open();
    core.close();
    core.close();
  }

  @Test
  void aCloseInTheMiddleOfCallsLetsThemEndAndRefusesThoseAfterIt() throws InterruptedException {
    for (int round = 0; round < 5; round++) {
      DistillationCore core = DistillationCore.open();
      AtomicReference<Throwable> wrong = new AtomicReference<>();
      AtomicInteger refused = new AtomicInteger();
      CountDownLatch begun = new CountDownLatch(4);
      List<Thread> threads = new ArrayList<>();
      for (int t = 0; t < 4; t++) {
        Thread thread = new Thread(() -> callUntilClosed(core, begun, refused, wrong));
        thread.start();
        threads.add(thread);
      }
      begun.await();
      core.close();
      for (Thread thread : threads) {
        thread.join();
      }
      assertNull(wrong.get());
      assertEquals(4, refused.get());
    }
  }

  private static void callUntilClosed(
      DistillationCore core, CountDownLatch begun, AtomicInteger refused, AtomicReference<Throwable> wrong) {
    int rows = 64;
    int classes = 10;
    ByteBuffer gradient = Buffers.floats(rows * classes);
    DistillBatch batch =
        new DistillBatch(rows, classes).student(Buffers.floats(rows * classes)).labels(Buffers.longs(rows))
            .gradient(gradient);
    boolean first = true;
    try {
      while (true) {
        double loss = core.distill(batch, DistillOptions.crossEntropy(1)).loss;
        assertEquals(Math.log(classes), loss, 1e-6);
        if (first) {
          begun.countDown();
          first = false;
        }
      }
    } catch (KernelException closed) {
      assertTrue(closed.getMessage().contains("closed"));
      refused.incrementAndGet();
    } catch (Throwable other) {
      wrong.set(other);
    }
  }
}

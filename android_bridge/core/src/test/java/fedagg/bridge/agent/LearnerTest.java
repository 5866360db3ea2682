package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.wire.ChildState.StorageException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Rounds of a softmax regression on four samples, in batches of a row or two and several epochs. */
class LearnerTest {
  private static final Hyperparameters H = Hyperparameters.builder().learningRate(0.5).batchSize(1).epochs(3).build();
  private static final int BATCHES = 9; // the last of an epoch has two rows
  private static final Weights DONE = new Weights(1, 1, "edge-a", null);
  private static final float[] SAMPLE = {0.7f};

  @TempDir Path home;
  private final DistillationCore core = DistillationCore.open();
  private final LessonTest.Hundredths bridge = new LessonTest.Hundredths();
  private DeviceState state;
  private byte[] set;
  private OnDeviceTrainer trainer;

  @BeforeEach
  void open() throws Exception {
    state = DeviceState.open(home.resolve("state"), "d1");
    set = LessonTest.shared(state);
  }

  @AfterEach
  void close() throws Exception {
    state.close();
    core.close();
  }

  /** As after a restart: another trainer, which has the first weights until the folder tells otherwise. */
  private Learner learner(String folder) throws Exception {
    Path path = home.resolve(folder);
    Files.createDirectories(path);
    trainer = new KernelTrainer(new SoftmaxEngine(1, LessonTest.CLASSES), core);
    return new Learner(path, bridge, trainer);
  }

  private Round round(long seed) throws Exception {
    return new Round(Lesson.of(LessonTest.knowledge(set, 0), state, bridge, core, LessonTest.CLASSES), H, seed);
  }

  /** Ends after so many batches. */
  private static BooleanSupplier after(int batches) {
    AtomicInteger asked = new AtomicInteger();
    return () -> asked.getAndIncrement() >= batches;
  }

  @Test
  void aRoundThatIsEndedLeavesTheWeightsFromBefore() throws Exception {
    Learner learner = learner("a");
    byte[] first = trainer.save();
    assertNull(learner.learn(round(7), DONE, after(5)));
    assertArrayEquals(first, trainer.save());
    assertEquals(-1, learner.last().done);
    assertNotNull(learner.learn(round(7), DONE, after(BATCHES + 1)));
    assertFalse(Arrays.equals(first, trainer.save()));
    assertEquals(1, learner.last().done);
    assertEquals("edge-a", learner.last().parent);
    byte[] trained = trainer.save();
    learner("a");
    assertArrayEquals(trained, trainer.save()); // they are on the disk
  }

  /** However short the runs are, the round ends, and as one that nobody ended: to the bit. */
  @Test
  void aRoundGoesOnWhereItWasLeftAlsoAfterARestart() throws Exception {
    StepReport whole = learner("whole").learn(round(7), DONE, () -> false);
    byte[] wanted = trainer.save();
    StepReport report = null;
    int runs = 0;
    for (; report == null; runs++) {
      assertTrue(runs < BATCHES, "the round does not end");
      report = learner("parts").learn(round(7), DONE, after(4));
    }
    assertEquals(3, runs);
    assertArrayEquals(wanted, trainer.save());
    assertEquals(whole.loss, report.loss);
    assertEquals(whole.divergence, report.divergence);
    assertFalse(Files.exists(home.resolve("parts/round")));
  }

  @Test
  void anotherRoundBeginsAtItsBeginning() throws Exception {
    learner("whole").learn(round(8), DONE, () -> false);
    byte[] wanted = trainer.save();
    Learner learner = learner("parts");
    assertNull(learner.learn(round(7), DONE, after(5)));
    assertNotNull(learner.learn(round(8), DONE, () -> false));
    assertArrayEquals(wanted, trainer.save());
  }

  @Test
  void aRoundThatHadSeenWhatWasForgottenBeginsAnew() throws Exception {
    assertNull(learner("parts").learn(round(7), DONE, after(8)));
    state.forget(new long[] {2});
    learner("parts").learn(round(7), DONE, () -> false);
    byte[] found = trainer.save();
    learner("whole").learn(round(7), DONE, () -> false);
    assertArrayEquals(trainer.save(), found);
  }

  @Test
  void aDamagedRoundIsNone() throws Exception {
    Learner learner = learner("a");
    learner.learn(round(7), DONE, after(5));
    byte[] all = Files.readAllBytes(home.resolve("a/round"));
    all[60] ^= 1;
    Files.write(home.resolve("a/round"), all);
    AtomicInteger asked = new AtomicInteger();
    learner.learn(round(7), DONE, () -> asked.incrementAndGet() < 0);
    assertEquals(BATCHES, asked.get());
  }

  /** From another thread, between any two batches: nobody has to wait for the round. */
  @Test
  void whoAsksMeanwhileIsAnsweredByTheLastRoundsWeights() throws Exception {
    StepReport whole = learner("whole").learn(round(7), DONE, () -> false);
    byte[] wanted = trainer.save();
    Learner learner = learner("asked");
    float before = learner.predict(SAMPLE).getFloat(0);
    AtomicInteger answered = new AtomicInteger();
    BooleanSupplier asks =
        () -> {
          inAnotherThread(
              () -> {
                assertEquals(before, learner.predict(SAMPLE).getFloat(0));
                assertEquals(1, learner.encode(Collections.singletonList(SAMPLE)).length);
                answered.incrementAndGet();
              });
          return false;
        };
    StepReport report = learner.learn(round(7), DONE, asks);
    assertEquals(BATCHES, answered.get());
    assertEquals(whole.loss, report.loss);
    assertArrayEquals(wanted, trainer.save());
    assertNotEquals(before, learner.predict(SAMPLE).getFloat(0));
  }

  private interface Work {
    void run() throws Exception;
  }

  private static void inAnotherThread(Work work) {
    AtomicReference<Throwable> wrong = new AtomicReference<>();
    Thread other =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (Throwable error) {
                wrong.set(error);
              }
            });
    other.setDaemon(true);
    other.start();
    try {
      other.join(60_000);
    } catch (InterruptedException error) {
      throw new AssertionError(error);
    }
    assertFalse(other.isAlive(), "it waits for the round");
    assertNull(wrong.get(), () -> String.valueOf(wrong.get()));
  }

  @Test
  void weightsThatCannotBeWrittenAreNotKept() throws Exception {
    Learner learner = learner("a");
    byte[] first = trainer.save();
    Files.createDirectory(home.resolve("a/weights.new"));
    assertThrows(StorageException.class, () -> learner.learn(round(7), DONE, () -> false));
    assertArrayEquals(first, trainer.save());
    assertEquals(-1, learner.last().done);
    Files.delete(home.resolve("a/weights.new"));
    assertNotNull(learner.learn(round(7), DONE, () -> false));
  }

  @Test
  void logitsEndBetweenBlocks() throws Exception {
    Learner learner = learner("a");
    assertNull(learner.logits(Collections.nCopies(100, new byte[1]), after(1)));
    ByteBuffer all = learner.logits(Collections.nCopies(100, new byte[1]), after(2));
    assertEquals(100 * 4 * LessonTest.CLASSES, all.remaining());
  }
}

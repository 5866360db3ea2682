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
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
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
    state = DeviceState.open(home.resolve("state"), "d1", 0);
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

  /** As an application that was updated meanwhile may ask for. */
  @Test
  void aRoundOfOtherHyperparametersIsAnotherOne() throws Exception {
    Hyperparameters.Builder[] others = {
      Hyperparameters.builder().learningRate(0.25).momentum(0.9), Hyperparameters.builder().learningRate(0.5).momentum(0.5),
      Hyperparameters.builder().learningRate(0.5).weightDecay(0.1), Hyperparameters.builder().learningRate(0.5).temperature(2),
      Hyperparameters.builder().learningRate(0.5).beta(2), Hyperparameters.builder().learningRate(0.5).gamma(2),
      Hyperparameters.builder().learningRate(0.5).reverse(true),
      Hyperparameters.builder().learningRate(0.5).temperatureOnTeacher(true)
    };
    byte[] fingerprint = round(7).fingerprint();
    Lesson lesson = Lesson.of(LessonTest.knowledge(set, 0), state, bridge, core, LessonTest.CLASSES);
    for (Hyperparameters.Builder other : others) {
      byte[] found = new Round(lesson, other.batchSize(1).epochs(3).build(), 7).fingerprint();
      assertFalse(Arrays.equals(fingerprint, found));
    }
    assertArrayEquals(fingerprint, new Round(lesson, H, 7).fingerprint());
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

  /** A trainer that cannot load now and then, and tells when it is called. */
  private static final class Flaky implements OnDeviceTrainer {
    final OnDeviceTrainer inner;
    final List<Integer> failing = new ArrayList<>(); // loads from now on that fail: 0 is the next one
    RuntimeException broken; // what they fail by, if not a TrainerException
    Runnable inStep = () -> {};
    Runnable inSave = () -> {};
    int steps;

    Flaky(OnDeviceTrainer inner) {
      this.inner = inner;
    }

    void failLoads(Integer... from) {
      failing.clear();
      failing.addAll(Arrays.asList(from));
    }

    @Override
    public int sampleFloats() {
      return inner.sampleFloats();
    }

    @Override
    public int classes() {
      return inner.classes();
    }

    @Override
    public void logits(ByteBuffer samples, int rows, ByteBuffer out) throws TrainerException {
      inner.logits(samples, rows, out);
    }

    @Override
    public StepReport step(Batch batch, Hyperparameters hyperparameters) throws TrainerException {
      StepReport report = inner.step(batch, hyperparameters);
      steps++;
      inStep.run();
      return report;
    }

    @Override
    public byte[] save() throws TrainerException {
      inSave.run();
      return inner.save();
    }

    @Override
    public void load(byte[] state) throws TrainerException {
      boolean fails = failing.remove((Integer) 0);
      failing.replaceAll(i -> i - 1);
      if (fails && broken != null) {
        throw broken;
      }
      if (fails) {
        throw new TrainerException("no memory");
      }
      inner.load(state);
    }

    @Override
    public void close() {}
  }

  private Flaky flaky;

  private Learner flakyLearner(String folder) throws Exception {
    Path path = home.resolve(folder);
    Files.createDirectories(path);
    trainer = new KernelTrainer(new SoftmaxEngine(1, LessonTest.CLASSES), core);
    flaky = new Flaky(trainer);
    return new Learner(path, bridge, flaky);
  }

  private byte[] wanted() throws Exception {
    learner("whole").learn(round(7), DONE, () -> false);
    return trainer.save();
  }

  /** Asks as the model is used by another thread, which is next when the lock is free. */
  private Thread asksNext(Learner learner) {
    flaky.failLoads(1); // what it should put back
    Thread other =
        new Thread(
            () -> {
              try {
                learner.predict(SAMPLE);
              } catch (TrainerException error) {
                // the weights are lost
              }
            });
    other.setDaemon(true);
    other.start();
    while (other.getState() != Thread.State.WAITING) {
      Thread.yield();
    }
    return other;
  }

  @Test
  void aRoundWhoseWeightsArePutBackWronglyIsNotTrainedOn() throws Exception {
    Learner learner = flakyLearner("a");
    byte[] first = trainer.save();
    float before = learner.predict(SAMPLE).getFloat(0);
    AtomicInteger asked = new AtomicInteger();
    BooleanSupplier asks =
        () -> {
          if (asked.incrementAndGet() == 4) {
            flaky.failLoads(1);
            assertThrows(TrainerException.class, () -> learner.predict(SAMPLE));
            for (int i = 0; i < 2; i++) {
              try {
                assertEquals(before, learner.predict(SAMPLE).getFloat(0));
              } catch (TrainerException error) {
                throw new AssertionError(error);
              }
            }
          }
          return false;
        };
    assertThrows(TrainerException.class, () -> learner.learn(round(7), DONE, asks));
    assertEquals(3, flaky.steps);
    assertArrayEquals(first, trainer.save());
    assertNotNull(learner.learn(round(7), DONE, () -> false));
    byte[] found = trainer.save();
    assertArrayEquals(wanted(), found);
  }

  @Test
  void aDisturbedRoundIsNotWrittenWhenItIsEnded() throws Exception {
    Learner learner = flakyLearner("a");
    AtomicInteger asked = new AtomicInteger();
    BooleanSupplier asks =
        () -> {
          if (asked.incrementAndGet() < 5) {
            return false;
          }
          flaky.failLoads(1);
          assertThrows(TrainerException.class, () -> learner.predict(SAMPLE));
          return true;
        };
    assertNull(learner.learn(round(7), DONE, asks));
    assertFalse(Files.exists(home.resolve("a/round")));
  }

  @Test
  void aRoundThatIsDisturbedBehindItsLastBatchIsNotKept() throws Exception {
    Learner learner = flakyLearner("a");
    byte[] first = trainer.save();
    flaky.inStep =
        () -> {
          if (flaky.steps == BATCHES) {
            asksNext(learner);
          }
        };
    assertThrows(TrainerException.class, () -> learner.learn(round(7), DONE, () -> false));
    assertArrayEquals(first, trainer.save());
    assertFalse(Files.exists(home.resolve("a/weights")));
    assertEquals(-1, learner.last().done);
  }

  @Test
  void aRoundThatIsDisturbedWhileItIsWrittenIsWhatWasWritten() throws Exception {
    byte[] wanted = wanted();
    Learner learner = flakyLearner("a");
    flaky.inSave =
        () -> {
          if (flaky.steps == BATCHES) {
            flaky.inSave = () -> {};
            asksNext(learner);
          }
        };
    assertNotNull(learner.learn(round(7), DONE, () -> false));
    assertArrayEquals(wanted, trainer.save());
    learner("a");
    assertArrayEquals(wanted, trainer.save());
  }

  @Test
  void aRoundThatCouldNotGoBackDoesSoBeforeTheNextOne() throws Exception {
    byte[] wanted = wanted();
    for (String next : new String[] {"round", "answer"}) {
      Learner learner = flakyLearner(next);
      float before = learner.predict(SAMPLE).getFloat(0);
      flaky.inStep =
          () -> {
            if (flaky.steps == 3) {
              flaky.failLoads(0);
              throw new IllegalStateException("the runtime is out of memory");
            }
          };
      assertThrows(TrainerException.class, () -> learner.learn(round(7), DONE, () -> false));
      assertEquals(before, learner.predict(SAMPLE).getFloat(0));
      if (next.equals("answer")) {
        List<byte[]> codes = Collections.singletonList(new byte[] {70});
        assertEquals(before, learner.logits(codes, () -> false).getFloat(0));
      }
      flaky.inStep = () -> {};
      assertNotNull(learner.learn(round(7), DONE, () -> false));
      assertArrayEquals(wanted, trainer.save());
    }
  }

  @Test
  void aRoundThatCannotBeReadOrLoadedIsNone() throws Exception {
    byte[] wanted = wanted();
    for (String bad : new String[] {"unreadable", "unloadable"}) {
      Learner learner = flakyLearner(bad);
      assertNull(learner.learn(round(7), DONE, after(5)));
      flaky.broken = new IllegalStateException("the runtime cannot");
      flaky.failLoads(0);
      if (bad.equals("unreadable")) {
        flaky.failLoads();
        Files.delete(home.resolve("unreadable/round"));
        Files.createDirectory(home.resolve("unreadable/round"));
      }
      flaky.steps = 0;
      assertNotNull(learner.learn(round(7), DONE, () -> false), bad);
      assertEquals(BATCHES, flaky.steps, bad);
      assertArrayEquals(wanted, trainer.save(), bad);
    }
  }

  @Test
  void aRoundThatCannotBeWrittenIsNotTrainedAgain() throws Exception {
    byte[] wanted = wanted();
    Learner learner = flakyLearner("a");
    Files.createDirectory(home.resolve("a/weights.new"));
    for (int i = 0; i < 2; i++) {
      assertThrows(StorageException.class, () -> learner.learn(round(7), DONE, () -> false));
    }
    assertEquals(BATCHES, flaky.steps);
    Files.delete(home.resolve("a/weights.new"));
    StepReport report = learner.learn(round(7), DONE, () -> false);
    assertEquals(BATCHES, flaky.steps);
    assertTrue(report.loss > 0);
    assertArrayEquals(wanted, trainer.save());
    learner.learn(round(7), DONE, () -> false);
    assertEquals(2 * BATCHES, flaky.steps); // once it is written it is over
  }

  @Test
  void whoComesAfterTheEndDoesNotReachTheModel() throws Exception {
    Learner learner = learner("a");
    learner.close();
    assertThrows(IllegalStateException.class, () -> learner.predict(SAMPLE));
    assertThrows(IllegalStateException.class, () -> learner.encode(Collections.singletonList(SAMPLE)));
    assertThrows(
        IllegalStateException.class, () -> learner.logits(Collections.singletonList(new byte[1]), () -> false));
    assertThrows(IllegalStateException.class, () -> learner.learn(round(7), DONE, () -> false));
  }

  @Test
  void theEndWaitsForWhoIsInTheModel() throws Exception {
    Learner learner = flakyLearner("a");
    AtomicReference<Thread> closing = new AtomicReference<>();
    flaky.inStep =
        () -> {
          if (flaky.steps == 3) {
            closing.set(new Thread(learner::close));
            closing.get().start();
            while (closing.get().getState() != Thread.State.WAITING) { // for this step
              Thread.yield();
            }
          }
        };
    assertThrows(IllegalStateException.class, () -> learner.learn(round(7), DONE, () -> false));
    closing.get().join();
    assertEquals(3, flaky.steps);
  }

  @Test
  void logitsEndBetweenBlocks() throws Exception {
    Learner learner = learner("a");
    assertNull(learner.logits(Collections.nCopies(100, new byte[1]), after(1)));
    ByteBuffer all = learner.logits(Collections.nCopies(100, new byte[1]), after(2));
    assertEquals(100 * 4 * LessonTest.CLASSES, all.remaining());
  }
}

package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.wire.ChildState.StorageException;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Knowledge;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LessonTest {
  static final int CLASSES = 2;
  private static final float[][] TEACHER = {{1, 2}, {3, 4}, {5, 6}, {7, 8}};

  @TempDir Path folder;

  /** A code is the sample's one number times 100; decoding gives code / 100. */
  static final class Hundredths implements Bridge {
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
    public void encode(ByteBuffer samples, int rows, ByteBuffer codes) {
      for (int i = 0; i < rows; i++) {
        codes.put(i, (byte) Math.round(100 * samples.getFloat(4 * i)));
      }
    }

    @Override
    public void decode(ByteBuffer codes, int rows, ByteBuffer samples) {
      for (int i = 0; i < rows; i++) {
        samples.putFloat(4 * i, codes.get(i) / 100f);
      }
    }
  }

  /** Notes what it is taught, and has all samples forgotten during its first step, as an application may. */
  private static final class Recorder implements OnDeviceTrainer {
    final DeviceState state;
    final List<String> seen = new ArrayList<>();
    int steps;

    Recorder(DeviceState state) {
      this.state = state;
    }

    @Override
    public int sampleFloats() {
      return 1;
    }

    @Override
    public int classes() {
      return CLASSES;
    }

    @Override
    public void logits(ByteBuffer samples, int rows, ByteBuffer out) {
      throw new UnsupportedOperationException("a lesson only trains");
    }

    @Override
    public StepReport step(Batch batch, Hyperparameters hyperparameters) throws TrainerException {
      for (int i = 0; i < batch.rows; i++) {
        seen.add(
            Math.round(100 * batch.privateSamples.getFloat(4 * i)) + " " + Math.round(100 * batch.bridgeSamples.getFloat(4 * i))
                + " " + batch.labels.getLong(8 * i) + " " + batch.teacher.getFloat(8 * i) + " " + batch.teacher.getFloat(8 * i + 4));
      }
      if (steps++ == 0) {
        try {
          state.forget(new long[] {0, 1, 2, 3});
        } catch (StorageException error) {
          throw new TrainerException("the test's state: " + error.getMessage(), error);
        }
      }
      return new StepReport(batch.rows, 0, 0, 0);
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
  void aSampleThatIsForgottenMeanwhileIsNotTrainedOn() throws Exception {
    try (DeviceState state = DeviceState.open(folder, "d1", 0); DistillationCore core = DistillationCore.open()) {
      byte[] set = shared(state);
      Lesson lesson = Lesson.of(knowledge(set, 0), state, new Hundredths(), core, CLASSES);
      assertEquals(4, lesson.rows().size());
      Recorder trainer = new Recorder(state);
      Hyperparameters h = Hyperparameters.builder().batchSize(1).epochs(2).build();
      Round round = new Round(lesson, h, 1);
      while (!round.isOver()) {
        round.step(trainer);
      }
      StepReport means = round.means();
      assertEquals(1, trainer.seen.size(), trainer.seen.toString());
      int row = Character.digit(trainer.seen.get(0).charAt(0), 10) - 1; // sample i is (i + 1) / 10
      String ten = Integer.toString(10 * (row + 1));
      assertEquals(ten + " " + ten + " " + row % 2 + " " + TEACHER[row][0] + " " + TEACHER[row][1], trainer.seen.get(0));
      assertEquals(1, means.loss);
      assertEquals(0, Lesson.of(knowledge(set, 0), state, new Hundredths(), core, CLASSES).rows().size());
    }
  }

  @Test
  void knowledgeOnOtherViewsOrSetsIsRefused() throws Exception {
    try (DeviceState state = DeviceState.open(folder, "d1", 0); DistillationCore core = DistillationCore.open()) {
      byte[] set = shared(state);
      for (Knowledge wrong : Arrays.asList(knowledge(set, 7), knowledge(new byte[32], 0))) {
        assertThrows(TrainerException.class, () -> Lesson.of(wrong, state, new Hundredths(), core, CLASSES));
      }
    }
  }

  static byte[] shared(DeviceState state) throws Exception {
    List<float[]> samples = new ArrayList<>();
    byte[] codes = new byte[TEACHER.length];
    int[] labels = new int[TEACHER.length];
    long[] counters = new long[TEACHER.length];
    for (int i = 0; i < TEACHER.length; i++) {
      samples.add(new float[] {(i + 1) / 10f});
      codes[i] = (byte) (10 * (i + 1));
      labels[i] = i % 2;
      counters[i] = i;
    }
    state.take(samples, labels, codes, 1, 1 << 20);
    byte[] set = Digests.ofSamples("d1", counters);
    state.begin();
    state.acknowledge(state.pendingKey(), 1, set);
    state.commit();
    return set;
  }

  static Knowledge knowledge(byte[] set, long view) {
    ByteBuffer data = Buffers.floats(TEACHER.length * CLASSES);
    for (int i = 0; i < TEACHER.length; i++) {
      data.putFloat(8 * i, TEACHER[i][0]);
      data.putFloat(8 * i + 4, TEACHER[i][1]);
    }
    return new Knowledge(1, -1, set, view, "f32", TEACHER.length, CLASSES, Buffers.toBytes(data, data.capacity()));
  }
}

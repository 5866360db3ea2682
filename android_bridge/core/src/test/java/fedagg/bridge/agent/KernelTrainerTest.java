package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class KernelTrainerTest {
  private static final int ROWS = 4;
  private static final int FLOATS = 3;
  private static final int CLASSES = 3;
  private static final Hyperparameters PLAIN =
      Hyperparameters.builder().learningRate(1).momentum(0).beta(0.7).gamma(1.3).temperature(2).build();

  private final DistillationCore core = DistillationCore.open();
  private final KernelTrainer trainer = new KernelTrainer(new SoftmaxEngine(FLOATS, CLASSES), core);
  private final Random random = new Random(5);

  @AfterEach
  void close() {
    trainer.close();
    core.close();
  }

  private ByteBuffer random(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextFloat();
    }
    return Buffers.of(values);
  }

  private Batch batch() {
    return new Batch(
        ROWS, random(ROWS * FLOATS), random(ROWS * FLOATS), Buffers.of(new long[] {0, 2, 1, 2}), random(ROWS * CLASSES));
  }

  /** eq. 4 in double, from the weights that `save` gives. */
  private static double loss(byte[] state, Batch batch, Hyperparameters h) {
    ByteBuffer w = ByteBuffer.wrap(state).order(ByteOrder.LITTLE_ENDIAN);
    double sum = 0;
    for (int n = 0; n < ROWS; n++) {
      int label = (int) batch.labels.getLong(8 * n);
      double[] own = log(w, batch.privateSamples, n, 1);
      double[] bridge = log(w, batch.bridgeSamples, n, 1);
      sum -= own[label] + h.gamma * bridge[label];
      double[] student = log(w, batch.bridgeSamples, n, h.studentTemperature());
      double[] teacher = new double[CLASSES];
      for (int c = 0; c < CLASSES; c++) {
        teacher[c] = batch.teacher.getFloat(4 * (n * CLASSES + c)) / h.temperature;
      }
      normalise(teacher);
      for (int c = 0; c < CLASSES; c++) {
        sum += h.gamma * h.klWeight() * Math.exp(teacher[c]) * (teacher[c] - student[c]);
      }
    }
    return sum / ROWS;
  }

  private static double[] log(ByteBuffer w, ByteBuffer x, int row, double temperature) {
    double[] z = new double[CLASSES];
    for (int c = 0; c < CLASSES; c++) {
      z[c] = w.getFloat(4 * (FLOATS * CLASSES + c));
      for (int d = 0; d < FLOATS; d++) {
        z[c] += (double) x.getFloat(4 * (row * FLOATS + d)) * w.getFloat(4 * (d * CLASSES + c));
      }
      z[c] /= temperature;
    }
    normalise(z);
    return z;
  }

  private static void normalise(double[] z) {
    double sum = 0;
    for (double each : z) {
      sum += Math.exp(each);
    }
    for (int c = 0; c < z.length; c++) {
      z[c] -= Math.log(sum);
    }
  }

  @Test
  void aStepGoesDownTheSlopeOfTheLeafsLoss() throws TrainerException {
    for (int step = 0; step < 3; step++) { // from other weights each time
      Batch batch = batch();
      byte[] before = trainer.save();
      StepReport report = trainer.step(batch, PLAIN);
      byte[] after = trainer.save();
      assertEquals(loss(before, batch, PLAIN), report.loss, 1e-5);
      ByteBuffer from = ByteBuffer.wrap(before).order(ByteOrder.LITTLE_ENDIAN);
      ByteBuffer to = ByteBuffer.wrap(after).order(ByteOrder.LITTLE_ENDIAN);
      for (int i = 0; i < (FLOATS + 1) * CLASSES; i++) {
        float h = 1e-2f;
        byte[] up = before.clone();
        byte[] down = before.clone();
        ByteBuffer.wrap(up).order(ByteOrder.LITTLE_ENDIAN).putFloat(4 * i, from.getFloat(4 * i) + h);
        ByteBuffer.wrap(down).order(ByteOrder.LITTLE_ENDIAN).putFloat(4 * i, from.getFloat(4 * i) - h);
        double slope = (loss(up, batch, PLAIN) - loss(down, batch, PLAIN)) / (2 * h);
        assertEquals(slope, from.getFloat(4 * i) - to.getFloat(4 * i), 1e-3, "weight " + i);
      }
    }
  }

  @Test
  void aStateGoesOnWhereItWas() throws TrainerException {
    Hyperparameters h = Hyperparameters.builder().build();
    Batch batch = batch();
    trainer.step(batch, h);
    byte[] state = trainer.save();
    trainer.step(batch, h);
    byte[] second = trainer.save();
    trainer.load(state);
    trainer.step(batch, h);
    assertArrayEquals(second, trainer.save());
    assertThrows(TrainerException.class, () -> trainer.load(new byte[3]));
  }

  @Test
  void aLossThatIsNotFiniteChangesNothing() throws TrainerException {
    Batch batch = batch();
    batch.bridgeSamples.putFloat(0, Float.NaN);
    byte[] before = trainer.save();
    TrainerException error = assertThrows(TrainerException.class, () -> trainer.step(batch, PLAIN));
    assertTrue(error.getMessage().contains("finite"), error.getMessage());
    assertArrayEquals(before, trainer.save());
  }

  @Test
  void hyperparametersThatCannotBeUsedAreRefused() {
    assertThrows(IllegalArgumentException.class, () -> Hyperparameters.builder().learningRate(0).build());
    assertThrows(IllegalArgumentException.class, () -> Hyperparameters.builder().momentum(1).build());
    assertThrows(IllegalArgumentException.class, () -> Hyperparameters.builder().temperature(Double.NaN).build());
  }
}

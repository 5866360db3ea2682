package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.TrainingFile;
import fedagg.bridge.wire.Fixtures;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.tensorflow.lite.Interpreter;

class TfliteTrainerTest {
  private static final int ROWS = 4;
  private static final int[] SHAPE = {3, 2};
  private static final int FLOATS = 6;
  private static final int CLASSES = 3;
  private static final int PARAMETERS = (FLOATS + 1) * CLASSES;

  /**
   * No TFLite: softmax regression with a training file's two signatures, in double, its loss's gradient from `targets`
   * and `settings` as learners/targets.py defines them. A running figure counts passes; a mask multiplies the sample.
   */
  private static final class Regression extends Interpreter {
    boolean masked;
    boolean broken;
    boolean closed;

    @Override
    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
      if (broken) {
        throw new IllegalArgumentException("no signature " + signature);
      }
      float[][][] x = (float[][][]) inputs.get("x");
      ByteBuffer w = (ByteBuffer) inputs.get("weights");
      assertEquals(4 * (PARAMETERS + 1), w.remaining());
      boolean train = signature.equals("train");
      float[][][] mask = train && masked ? (float[][][]) inputs.get("mask_0") : null;
      ByteBuffer logits = (ByteBuffer) outputs.get("logits");
      double[] slopes = new double[PARAMETERS];
      for (int n = 0; n < x.length; n++) {
        double[] sample = new double[FLOATS];
        for (int d = 0; d < FLOATS; d++) {
          int row = d / SHAPE[1];
          int column = d % SHAPE[1];
          sample[d] = x[n][row][column] * (mask == null ? 1 : mask[n][row][column]);
        }
        double[] z = new double[CLASSES];
        for (int c = 0; c < CLASSES; c++) {
          z[c] = w.getFloat(4 * (FLOATS * CLASSES + c));
          for (int d = 0; d < FLOATS; d++) {
            z[c] += sample[d] * w.getFloat(4 * (d * CLASSES + c));
          }
          logits.putFloat((float) z[c]); // moves the position, as the real one does
        }
        if (train) {
          double[] slope = slope(z, ((float[][]) inputs.get("targets"))[n], (float[]) inputs.get("settings"));
          for (int c = 0; c < CLASSES; c++) {
            slopes[FLOATS * CLASSES + c] += slope[c];
            for (int d = 0; d < FLOATS; d++) {
              slopes[d * CLASSES + c] += slope[c] * sample[d];
            }
          }
        }
      }
      if (train) {
        ByteBuffer gradient = (ByteBuffer) outputs.get("gradient");
        for (double each : slopes) {
          gradient.putFloat((float) each);
        }
        ((ByteBuffer) outputs.get("buffers")).putFloat(w.getFloat(4 * PARAMETERS) + 1);
      }
    }

    private static double[] slope(double[] z, float[] row, float[] settings) {
      double[] p = softmax(z, 1);
      double[] q = softmax(z, settings[0]);
      double[] teacher = new double[CLASSES];
      for (int c = 0; c < CLASSES; c++) {
        teacher[c] = row[CLASSES + c];
      }
      double[] t = softmax(teacher, 1);
      double divergence = 0;
      for (int c = 0; c < CLASSES; c++) {
        divergence += q[c] * Math.log(q[c] / t[c]);
      }
      double[] found = new double[CLASSES];
      for (int c = 0; c < CLASSES; c++) {
        double kl = settings[1] == 0 ? q[c] - t[c] : q[c] * (Math.log(q[c] / t[c]) - divergence);
        found[c] = row[2 * CLASSES] * (p[c] - row[c]) + row[2 * CLASSES + 1] * kl;
      }
      return found;
    }

    private static double[] softmax(double[] z, double scale) {
      double[] found = new double[CLASSES];
      double sum = 0;
      for (int c = 0; c < CLASSES; c++) {
        found[c] = Math.exp(scale * z[c]);
        sum += found[c];
      }
      for (int c = 0; c < CLASSES; c++) {
        found[c] /= sum;
      }
      return found;
    }

    @Override
    public void close() {
      closed = true;
    }
  }

  private final DistillationCore core = DistillationCore.open();
  private final Regression graph = new Regression();
  private final TfliteModel model = new TfliteModel(SHAPE, CLASSES, PARAMETERS, PARAMETERS + 1, 1);
  private final TfliteTrainer trainer =
      new TfliteTrainer(graph, model, new float[PARAMETERS + 2], core, new Random(3));
  private final KernelTrainer plain = new KernelTrainer(new SoftmaxEngine(FLOATS, CLASSES), core);
  private final Random random = new Random(5);

  @AfterEach
  void close() {
    trainer.close();
    plain.close();
    core.close();
    assertTrue(graph.closed);
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

  private static float[] numbers(byte[] state) {
    float[] found = new float[state.length / 4];
    ByteBuffer.wrap(state).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(found);
    return found;
  }

  private void agrees(Hyperparameters h) throws TrainerException {
    for (int step = 0; step < 3; step++) {
      Batch batch = batch();
      StepReport expected = plain.step(batch, h);
      StepReport found = trainer.step(batch, h);
      assertEquals(expected.loss, found.loss, 1e-5);
      assertEquals(expected.divergence, found.divergence, 1e-5);
      float[] own = numbers(trainer.save());
      float[] other = numbers(plain.save());
      for (int i = 0; i < PARAMETERS; i++) {
        assertEquals(other[i], own[i], 1e-5f, "weight " + i); // float32 against double, three steps
        assertEquals(other[PARAMETERS + i], own[PARAMETERS + 2 + i], 1e-5f, "velocity " + i);
      }
      assertEquals(2 * (step + 1), own[PARAMETERS], "running figure: two passes a step");
      assertEquals(2 * (step + 1), own[PARAMETERS + 1], "counter");
    }
    ByteBuffer samples = random(2 * FLOATS);
    ByteBuffer found = Buffers.floats(2 * CLASSES);
    ByteBuffer expected = Buffers.floats(2 * CLASSES);
    trainer.logits(samples, 2, found);
    plain.logits(samples, 2, expected);
    assertArrayEquals(Buffers.toFloats(expected, 2 * CLASSES), Buffers.toFloats(found, 2 * CLASSES), 1e-4f);
  }

  @Test
  void stepsAreThoseOfTheKernel() throws TrainerException {
    agrees(Hyperparameters.builder().learningRate(0.5).beta(0.7).gamma(1.3).temperature(2).weightDecay(0.01).build());
  }

  @Test
  void stepsAreThoseOfTheKernelWithTheDivergenceReversed() throws TrainerException {
    agrees(Hyperparameters.builder().learningRate(0.5).beta(0.7).gamma(1.3).temperature(2).reverse(true).build());
  }

  @Test
  void stepsAreThoseOfTheKernelWithTheTemperatureOnTheTeacherAlone() throws TrainerException {
    agrees(Hyperparameters.builder().learningRate(0.5).temperature(4).temperatureOnTeacher(true).build());
  }

  @Test
  void aStepThatFailsChangesNothing() throws TrainerException {
    Hyperparameters h = Hyperparameters.builder().build();
    trainer.step(batch(), h);
    byte[] before = trainer.save();
    Batch bad = batch();
    bad.bridgeSamples.putFloat(0, Float.NaN);
    assertTrue(assertThrows(TrainerException.class, () -> trainer.step(bad, h)).getMessage().contains("finite"));
    assertArrayEquals(before, trainer.save());
    graph.broken = true;
    assertTrue(assertThrows(TrainerException.class, () -> trainer.step(batch(), h)).getMessage().contains("train"));
    assertArrayEquals(before, trainer.save());
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
  void masksAreDrawnForEachRow() throws TrainerException {
    graph.masked = true;
    model.mask("mask_0", 0, SHAPE); // keeps nothing: only the biases, which see no sample, can learn
    trainer.step(batch(), Hyperparameters.builder().build());
    float[] weights = numbers(trainer.save());
    float biases = 0;
    for (int i = 0; i < PARAMETERS; i++) {
      biases += i < FLOATS * CLASSES ? 0 : Math.abs(weights[i]);
      assertTrue(i >= FLOATS * CLASSES || weights[i] == 0, "weight " + i);
    }
    assertTrue(biases > 0);
  }

  @Test
  void aTrainerOpensWhatTheExporterWrote() throws Exception {
    TrainingFile file = TrainingFile.read(Fixtures.root().resolve("tests/jvm/fixtures/cnn3.tflite"));
    try (TfliteTrainer opened = new TfliteTrainer(new Regression(), file, core, new Random(1))) {
      assertEquals(16, opened.sampleFloats());
      assertEquals(3, opened.classes());
      assertArrayEquals(file.weights(), java.util.Arrays.copyOf(numbers(opened.save()), file.weights().length));
    }
  }

  @Test
  void arraysAreNestedInCOrder() {
    float[][][] made = (float[][][]) TfliteTrainer.nested(new float[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 2, SHAPE);
    assertArrayEquals(new float[] {2, 3}, made[0][1]);
    assertArrayEquals(new float[] {10, 11}, made[1][2]);
  }

  @Test
  void weightsOfAnotherModelAreRefused() {
    assertThrows(IllegalArgumentException.class, () -> new TfliteTrainer(graph, model, new float[3], core, new Random(1)));
    assertThrows(IllegalArgumentException.class, () -> new TfliteModel(new int[] {3, 0}, 2, 5, 5));
    assertThrows(IllegalArgumentException.class, () -> new TfliteModel(SHAPE, 2, 5, 4));
  }
}

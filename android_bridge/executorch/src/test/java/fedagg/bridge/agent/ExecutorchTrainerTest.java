package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.ModelFileException;
import fedagg.bridge.model.TrainingProgram;
import fedagg.bridge.model.TrainingProgramTest;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

class ExecutorchTrainerTest {
  private static final int ROWS = 4;
  private static final int FLOATS = 6;
  private static final int CLASSES = 3;
  private static final float GONE = -12_345; // in memory that the runtime has used again
  private static final int PARAMETERS = (FLOATS + 1) * CLASSES;
  private static final String ABOUT =
      "{\"format\":\"fedagg-executorch\",\"schema\":1,\"sample_shape\":[3,2],\"classes\":3,\"rows\":4,\"noise_columns\":6,"
          + "\"table\":[[\"w\",[6,3],true,\"float32\"],[\"b\",[3],true,\"float32\"],[\"figure\",[2],false,\"float32\"],"
          + "[\"passes\",[],false,\"int64\"]],\"changed_buffers\":[0,1],"
          + "\"backward_inputs\":[\"x\",\"output:3\",\"upstream\",\"buffer:0\",\"output:0\"]}";

  /**
   * No ExecuTorch: softmax regression with a training program's three methods. A running figure and a counter count passes;
   * a mask of bytes, where random numbers lie below {@code keep}, multiplies the sample and goes to the backward pass. Floats
   * that it gave are gone when it is called again, as the real one's may be.
   */
  private static final class Regression extends Module {
    float keep = 1;
    boolean broken;
    boolean masksAreBooleans;
    boolean closed;
    int largest;
    private final List<FloatBuffer> given = new ArrayList<>();

    private EValue give(float[] values, long... shape) {
      FloatBuffer made = Buffers.of(values).asFloatBuffer();
      given.add(made);
      return EValue.from(Tensor.fromBlob(made, shape));
    }

    @Override
    public EValue[] execute(String method, EValue... inputs) {
      if (broken) {
        throw new RuntimeException("no method " + method);
      }
      if (closed) {
        return new EValue[0];
      }
      for (FloatBuffer each : given) {
        for (int i = 0; i < each.capacity(); i++) {
          each.put(i, GONE);
        }
      }
      given.clear();
      return method.equals("backward") ? backward(inputs) : forward(method.equals("forward"), inputs);
    }

    private EValue[] forward(boolean training, EValue[] inputs) {
      assertEquals(training ? 6 : 5, inputs.length);
      float[] w = inputs[0].toTensor().getDataAsFloatArray();
      float[] b = inputs[1].toTensor().getDataAsFloatArray();
      Tensor samples = inputs[inputs.length - 1].toTensor();
      assertArrayEquals(new long[] {3, 2}, java.util.Arrays.copyOfRange(samples.shape(), 1, 3));
      float[] x = samples.getDataAsFloatArray();
      int rows = (int) samples.shape()[0];
      largest = Math.max(largest, rows);
      byte[] mask = new byte[x.length];
      float[] noise = training ? inputs[4].toTensor().getDataAsFloatArray() : new float[x.length];
      float[] logits = new float[rows * CLASSES];
      for (int n = 0; n < rows; n++) {
        for (int c = 0; c < CLASSES; c++) {
          double z = b[c];
          for (int d = 0; d < FLOATS; d++) {
            mask[n * FLOATS + d] = (byte) (!training || noise[n * FLOATS + d] < keep ? 1 : 0);
            z += mask[n * FLOATS + d] * (double) x[n * FLOATS + d] * w[d * CLASSES + c];
          }
          logits[n * CLASSES + c] = (float) z;
        }
      }
      EValue first = give(logits, rows, CLASSES);
      if (!training) {
        return new EValue[] {first};
      }
      float[] figure = inputs[2].toTensor().getDataAsFloatArray();
      long passes = inputs[3].toTensor().getDataAsLongArray()[0];
      long[] shape = {rows, FLOATS};
      return new EValue[] {
        first, give(new float[] {figure[0] + 1, figure[1] - 1}, 2),
        EValue.from(Tensor.fromBlob(new long[] {passes + 1}, new long[0])),
        EValue.from(masksAreBooleans ? Tensor.unsupported(shape) : Tensor.fromBlobUnsigned(mask, shape))
      };
    }

    private EValue[] backward(EValue[] inputs) {
      float[] x = inputs[0].toTensor().getDataAsFloatArray();
      byte[] mask = inputs[1].toTensor().getDataAsUnsignedByteArray();
      float[] slope = inputs[2].toTensor().getDataAsFloatArray();
      seen = inputs[3].toTensor().getDataAsFloatArray()[0];
      assertEquals(slope.length, inputs[4].toTensor().numel());
      for (float each : inputs[4].toTensor().getDataAsFloatArray()) {
        assertFalse(each == GONE, "an output of forward that is gone");
      }
      double[] w = new double[FLOATS * CLASSES];
      double[] b = new double[CLASSES];
      for (int i = 0; i < slope.length; i++) {
        int n = i / CLASSES;
        int c = i % CLASSES;
        b[c] += slope[i];
        for (int d = 0; d < FLOATS; d++) {
          w[d * CLASSES + c] += slope[i] * (double) mask[n * FLOATS + d] * x[n * FLOATS + d];
        }
      }
      return new EValue[] {give(floats(w), FLOATS, CLASSES), give(floats(b), CLASSES)};
    }

    float seen; // the running figure that the last backward pass got

    private static float[] floats(double[] from) {
      float[] found = new float[from.length];
      for (int i = 0; i < found.length; i++) {
        found[i] = (float) from[i];
      }
      return found;
    }

    @Override
    public void destroy() {
      closed = true;
    }
  }

  private final DistillationCore core = DistillationCore.open();
  private final Regression module = new Regression();
  private final ExecutorchTrainer trainer = new ExecutorchTrainer(module, program(ABOUT), core, new Random(3));
  private final KernelTrainer plain = new KernelTrainer(new SoftmaxEngine(FLOATS, CLASSES), core);
  private final Random random = new Random(5);

  private static TrainingProgram program(String about) {
    try {
      return TrainingProgram.read(
          TrainingProgramTest.sealed(
              "....ET12".getBytes(StandardCharsets.US_ASCII), about, new byte[4 * (PARAMETERS + 3)]));
    } catch (ModelFileException error) {
      throw new IllegalStateException(error);
    }
  }

  @AfterEach
  void close() {
    trainer.close();
    plain.close();
    core.close();
    assertTrue(module.closed);
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
        assertEquals(other[PARAMETERS + i], own[PARAMETERS + 3 + i], 1e-5f, "velocity " + i);
      }
      assertEquals(2 * (step + 1), own[PARAMETERS], "running figure: two passes a step");
      assertEquals(-2 * (step + 1), own[PARAMETERS + 1]);
      assertEquals(2 * (step + 1), own[PARAMETERS + 2], "counter");
      assertEquals(2 * step + 1, module.seen, "what the second forward pass saw, not what it left");
    }
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
  void logitsAreComputedInPartsThatTheProgramTakes() throws TrainerException {
    Batch batch = batch();
    trainer.step(batch, Hyperparameters.builder().build());
    plain.step(batch, Hyperparameters.builder().build());
    byte[] before = trainer.save();
    ByteBuffer samples = random(11 * FLOATS);
    ByteBuffer found = Buffers.floats(11 * CLASSES);
    ByteBuffer expected = Buffers.floats(11 * CLASSES);
    trainer.logits(samples, 11, found);
    plain.logits(samples, 11, expected);
    assertArrayEquals(Buffers.toFloats(expected, 11 * CLASSES), Buffers.toFloats(found, 11 * CLASSES), 1e-4f);
    assertEquals(4, module.largest);
    assertArrayEquals(before, trainer.save());
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
    Batch large = new Batch(5, random(5 * FLOATS), random(5 * FLOATS), Buffers.longs(5), random(5 * CLASSES));
    assertTrue(assertThrows(TrainerException.class, () -> trainer.step(large, h)).getMessage().contains("at most 4"));
    module.broken = true;
    assertTrue(assertThrows(TrainerException.class, () -> trainer.step(batch(), h)).getMessage().contains("forward"));
    module.broken = false;
    module.closed = true;
    assertTrue(assertThrows(TrainerException.class, () -> trainer.step(batch(), h)).getMessage().contains("gave 0"));
    assertArrayEquals(before, trainer.save());
  }

  @Test
  void masksOfAnOlderProgramAreRefusedWithWhatToDo() {
    module.masksAreBooleans = true;
    byte[] before = trainer.save();
    String said =
        assertThrows(TrainerException.class, () -> trainer.step(batch(), Hyperparameters.builder().build())).getMessage();
    assertTrue(said.contains("output 3 of forward is BOOL") && said.contains("export the model again"), said);
    assertArrayEquals(before, trainer.save());
  }

  @Test
  void aModuleOfAnotherModelIsRefused() {
    String other = ABOUT.replace("\"classes\":3", "\"classes\":2");
    try (ExecutorchTrainer wrong = new ExecutorchTrainer(new Regression(), program(other), core, new Random(1))) {
      Batch two = new Batch(2, random(2 * FLOATS), random(2 * FLOATS), Buffers.longs(2), random(4));
      String said =
          assertThrows(TrainerException.class, () -> wrong.step(two, Hyperparameters.builder().build())).getMessage();
      assertTrue(said.contains("got 6 of FLOAT, expected 4"), said);
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
  void randomNumbersAreDrawnForDropout() throws TrainerException {
    module.keep = 0; // only the biases, which see no sample, can learn
    trainer.step(batch(), Hyperparameters.builder().build());
    float[] weights = numbers(trainer.save());
    float biases = 0;
    for (int i = 0; i < PARAMETERS; i++) {
      biases += i < FLOATS * CLASSES ? 0 : Math.abs(weights[i]);
      assertTrue(i >= FLOATS * CLASSES || weights[i] == 0, "weight " + i);
    }
    assertTrue(biases > 0);
  }
}

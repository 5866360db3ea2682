package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import java.util.Random;
import org.junit.jupiter.api.Test;

class SgdTest {
  @Test
  void stepsAsTorchDoes() {
    Random random = new Random(2);
    int count = 77;
    float[] w = Reference.random(random, count, 1);
    double[] expected = new double[count];
    double[] speed = new double[count];
    for (int i = 0; i < count; i++) {
      expected[i] = w[i];
    }
    ByteBuffer parameters = Buffers.of(w);
    ByteBuffer velocity = Buffers.floats(count);
    try (DistillationCore core = DistillationCore.open()) {
      for (int step = 0; step < 4; step++) {
        float[] g = Reference.random(random, count, 1);
        core.sgdStep(count, parameters, Buffers.of(g), velocity, 0.1f, 0.9f, 0.01f, step % 2 == 1);
        for (int i = 0; i < count; i++) {
          double slope = g[i] + 0.01 * expected[i];
          speed[i] = 0.9 * speed[i] + slope;
          expected[i] -= 0.1 * (step % 2 == 1 ? slope + 0.9 * speed[i] : speed[i]);
        }
      }
      float[] got = Buffers.toFloats(parameters, count);
      for (int i = 0; i < count; i++) {
        assertEquals(expected[i], got[i], 1e-5);
      }
      assertThrows(
          KernelException.class,
          () -> core.sgdStep(1, Buffers.floats(1), Buffers.floats(1), null, 0.1f, 0.9f, 0, false));
      assertThrows(
          KernelException.class,
          () -> core.sgdStep(1, Buffers.floats(1), Buffers.floats(1), null, Float.NaN, 0, 0, false));
    }
  }
}

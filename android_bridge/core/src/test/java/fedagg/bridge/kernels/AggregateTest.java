package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Collections;
import java.util.Random;
import org.junit.jupiter.api.Test;

class AggregateTest {
  private static final int ROWS = 5;
  private static final int CLASSES = 4;

  private final float[][] teachers = new float[3][];

  AggregateTest() {
    Random random = new Random(11);
    for (int k = 0; k < 3; k++) {
      teachers[k] = Reference.random(random, ROWS * CLASSES, 2);
    }
  }

  private float[] run(Aggregation method, float[] weights, byte[] mask, double trim) {
    ByteBuffer out = Buffers.floats(ROWS * CLASSES);
    try (DistillationCore core = DistillationCore.open()) {
      core.aggregate(
          ROWS, CLASSES,
          Arrays.asList(
              Logits.f32(Buffers.of(teachers[0])), Logits.f32(Buffers.of(teachers[1])),
              Logits.f32(Buffers.of(teachers[2]))),
          weights == null ? null : Buffers.of(weights), null, mask == null ? null : Buffers.of(mask), method, trim, out);
    }
    return Buffers.toFloats(out, ROWS * CLASSES);
  }

  @Test
  void meansAreWeightedAndMasked() {
    byte[] mask = new byte[3 * ROWS];
    Arrays.fill(mask, (byte) 1);
    mask[2 * ROWS + 1] = 0; // the third teacher says nothing of the second row
    float[] weights = {1, 2, 3};
    float[] got = run(Aggregation.MEAN_LOGITS, weights, mask, 0.25);
    float[] probabilities = run(Aggregation.MEAN_PROBABILITIES, weights, mask, 0.25);
    for (int n = 0; n < ROWS; n++) {
      double total = n == 1 ? 3 : 6;
      for (int c = 0; c < CLASSES; c++) {
        double mean = 0;
        double p = 0;
        for (int k = 0; k < (n == 1 ? 2 : 3); k++) {
          mean += weights[k] / total * teachers[k][n * CLASSES + c];
          p += weights[k] / total * Math.exp(Reference.logSoftmax(teachers[k], n, CLASSES, 1)[c]);
        }
        assertEquals(mean, got[n * CLASSES + c], 1e-5);
        assertEquals(Math.log(p), probabilities[n * CLASSES + c], 1e-5);
      }
    }
  }

  @Test
  void medianAndTrimmedMeanOfThreeAreTheMiddleOne() {
    float[] median = run(Aggregation.MEDIAN, null, null, 0.25);
    for (int i = 0; i < median.length; i++) {
      float[] sorted = {teachers[0][i], teachers[1][i], teachers[2][i]};
      Arrays.sort(sorted);
      assertEquals(sorted[1], median[i]);
    }
    assertArrayEquals(median, run(Aggregation.TRIMMED_MEAN, null, null, 0.34));
    assertThrows(KernelException.class, () -> run(Aggregation.TRIMMED_MEAN, null, null, 0.5));
  }

  @Test
  void entropyWeightsAreTheConfidences() {
    float[] got = run(Aggregation.ENTROPY_WEIGHTED, null, null, 0.25);
    float[][] sure = new float[3][];
    try (DistillationCore core = DistillationCore.open()) {
      for (int k = 0; k < 3; k++) {
        ByteBuffer out = Buffers.floats(ROWS);
        core.confidence(ROWS, CLASSES, Logits.f32(Buffers.of(teachers[k])), out);
        sure[k] = Buffers.toFloats(out, ROWS);
      }
    }
    for (int n = 0; n < ROWS; n++) {
      double total = sure[0][n] + sure[1][n] + sure[2][n];
      for (int c = 0; c < CLASSES; c++) {
        int i = n * CLASSES + c;
        double mean = (sure[0][n] * teachers[0][i] + sure[1][n] * teachers[1][i] + sure[2][n] * teachers[2][i]) / total;
        assertEquals(mean, got[i], 1e-5);
      }
    }
  }

  @Test
  void nobodyIsRefused() {
    try (DistillationCore core = DistillationCore.open()) {
      assertThrows(
          KernelException.class,
          () ->
              core.aggregate(
                  1, 1, Collections.<Logits>emptyList(), null, null, null, Aggregation.MEDIAN, 0, Buffers.floats(1)));
      assertThrows(
          KernelException.class,
          () ->
              core.aggregate(
                  1, 1, Collections.<Logits>singletonList(null), null, null, null, Aggregation.MEDIAN, 0,
                  Buffers.floats(1)));
    }
  }
}

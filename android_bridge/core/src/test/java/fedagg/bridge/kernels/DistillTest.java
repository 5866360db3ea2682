package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class DistillTest {
  // exp and log of the kernels are accurate to a few units in the last place of binary32
  private static final double TOLERANCE = 2e-6;

  private final String best = DistillationCore.activeIsa();

  static String[] isas() {
    return DistillationCore.availableIsas();
  }

  @AfterEach
  void back() {
    DistillationCore.setActiveIsa(best);
  }

  private static double[] run(
      float[] z, Logits teacher, long[] labels, ByteBuffer mask, float[] weights, int rows, int classes,
      DistillOptions options) {
    ByteBuffer gradient = Buffers.floats(rows * classes);
    DistillBatch batch =
        new DistillBatch(rows, classes).student(Buffers.of(z)).teacher(teacher).mask(mask).gradient(gradient);
    if (labels != null) {
      batch.labels(Buffers.of(labels));
    }
    if (weights != null) {
      batch.rowWeights(Buffers.of(weights));
    }
    try (DistillationCore core = DistillationCore.open(2)) {
      DistillLoss loss = core.distill(batch, options);
      double[] out = new double[3 + rows * classes];
      out[0] = loss.loss;
      out[1] = loss.crossEntropy;
      out[2] = loss.divergence;
      float[] slopes = Buffers.toFloats(gradient, rows * classes);
      for (int i = 0; i < slopes.length; i++) {
        out[3 + i] = slopes[i];
      }
      return out;
    }
  }

  private static void close(double[] expected, double[] got) {
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], got[i], TOLERANCE * (1 + Math.abs(expected[i])), "number " + i);
    }
  }

  @ParameterizedTest
  @MethodSource("isas")
  void agreesWithDoubleForEveryShapeTypeAndDirection(String isa) {
    DistillationCore.setActiveIsa(isa);
    Random random = new Random(7);
    for (int rows : new int[] {1, 3, 17, 64}) {
      for (int classes : new int[] {2, 3, 10, 16, 33, 100}) {
        float[] z = Reference.random(random, rows * classes, 4);
        float[] t = Reference.random(random, rows * classes, 4);
        long[] labels = random.longs(rows, 0, classes).toArray();
        byte[] mask = new byte[rows];
        float[] weights = new float[rows];
        double[] counted = new double[rows];
        for (int n = 0; n < rows; n++) {
          mask[n] = (byte) (n % 5 == 4 ? 0 : 1);
          weights[n] = random.nextFloat();
          counted[n] = mask[n] * (double) weights[n];
        }
        boolean reverse = random.nextBoolean();
        DistillOptions options = DistillOptions.of(0.7, 9, 3, 2);
        double[] got =
            run(z, Logits.f32(Buffers.of(t)), labels, Buffers.of(mask), weights, rows, classes,
                reverse ? options.reversed() : options);
        close(Reference.distill(z, t, labels, counted, classes, 0.7, 9, 3, 2, reverse), got);
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"F16", "INT8"})
  void readsATeacherAsItWasSent(LogitType type) {
    int rows = 9;
    int classes = 10;
    Random random = new Random(3);
    float[] z = Reference.random(random, rows * classes, 3);
    float[] t = Reference.random(random, rows * classes, 3);
    double[] all = new double[rows];
    Arrays.fill(all, 1);
    try (DistillationCore core = DistillationCore.open()) {
      ByteBuffer decoded = Buffers.floats(rows * classes);
      Logits teacher;
      if (type == LogitType.F16) {
        ByteBuffer half = Buffers.bytes(2 * rows * classes);
        core.toF16(rows * classes, Buffers.of(t), half);
        core.fromF16(rows * classes, half, decoded);
        teacher = Logits.f16(half);
      } else {
        ByteBuffer values = Buffers.bytes(rows * classes);
        ByteBuffer scale = Buffers.floats(rows);
        core.quantise(rows, classes, Buffers.of(t), values, scale);
        core.dequantise(rows, classes, values, scale, decoded);
        teacher = Logits.int8(values, scale);
      }
      double[] expected =
          Reference.distill(z, Buffers.toFloats(decoded, rows * classes), null, all, classes, 0, 1, 3, 3, false);
      close(expected, run(z, teacher, null, null, null, rows, classes, DistillOptions.of(0, 1, 3, 3)));
    }
  }

  @Test
  void beginsAtThePositionWritesInPlaceAndMovesNothing() {
    float[] z = {9, 9, 1, 2, 3, 9};
    double[] alone = run(new float[] {1, 2, 3}, null, new long[] {2}, null, null, 1, 3, DistillOptions.crossEntropy(1));
    ByteBuffer student = Buffers.of(z);
    student.position(8).limit(20);
    try (DistillationCore core = DistillationCore.open()) {
      DistillLoss loss =
          core.distill(
              new DistillBatch(1, 3).student(student).labels(Buffers.of(new long[] {2})).gradient(student),
              DistillOptions.crossEntropy(1));
      assertEquals(alone[0], loss.loss);
    }
    assertEquals(8, student.position());
    float[] after = Buffers.toFloats(student.clear(), 6);
    float[] wanted = {9, 9, (float) alone[3], (float) alone[4], (float) alone[5], 9};
    assertArrayEquals(wanted, after);
  }

  @Test
  void aReadOnlyInputIsRead() {
    ByteBuffer student = Buffers.of(new float[] {1, 2}).asReadOnlyBuffer().order(java.nio.ByteOrder.nativeOrder());
    try (DistillationCore core = DistillationCore.open()) {
      DistillLoss loss =
          core.distill(
              new DistillBatch(1, 2).student(student).labels(Buffers.of(new long[] {0})).gradient(Buffers.floats(2)),
              DistillOptions.crossEntropy(1));
      assertEquals(Math.log(1 + Math.E), loss.crossEntropy, 1e-6);
    }
  }

  @Test
  void noRowCostsNothing() {
    double[] got = run(new float[0], null, new long[0], null, null, 0, 4, DistillOptions.crossEntropy(1));
    assertArrayEquals(new double[3], got);
  }

  @Test
  void whatTheCoreRefusesIsAKernelExceptionWithItsWords() {
    float[] z = new float[6];
    long[] labels = {0, 3};
    KernelException label =
        assertThrows(
            KernelException.class,
            () -> run(z, null, labels, null, null, 2, 3, DistillOptions.crossEntropy(1)));
    assertTrue(label.getMessage().contains("label"), label.getMessage());
    for (DistillOptions options :
        new DistillOptions[] {
          DistillOptions.of(Double.NaN, 1, 1, 1), DistillOptions.of(1, 1, 0, 1), DistillOptions.of(1, 1, 1, -1),
          DistillOptions.of(1, 1, 1, 1) /* a weight without a teacher */
        }) {
      assertThrows(
          KernelException.class, () -> run(z, null, new long[2], null, null, 2, 3, options));
    }
  }
}

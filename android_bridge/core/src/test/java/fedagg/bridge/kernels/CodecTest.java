package fedagg.bridge.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class CodecTest {
  private DistillationCore core;

  @BeforeEach
  void open() {
    core = DistillationCore.open();
  }

  @AfterEach
  void close() {
    core.close();
  }

  @Test
  void int8IsWithinHalfAStepOfEachRow() {
    int rows = 31;
    int classes = 13;
    float[] x = Reference.random(new Random(1), rows * classes, 5);
    ByteBuffer values = Buffers.bytes(rows * classes);
    ByteBuffer scale = Buffers.floats(rows);
    ByteBuffer back = Buffers.floats(rows * classes);
    core.quantise(rows, classes, Buffers.of(x), values, scale);
    core.dequantise(rows, classes, values, scale, back);
    float[] scales = Buffers.toFloats(scale, rows);
    float[] got = Buffers.toFloats(back, rows * classes);
    for (int n = 0; n < rows; n++) {
      float top = 0;
      for (int c = 0; c < classes; c++) {
        top = Math.max(top, Math.abs(x[n * classes + c]));
        assertEquals(x[n * classes + c], got[n * classes + c], 0.5001f * scales[n]);
      }
      assertEquals(top / 127, scales[n], 1e-6f * top);
    }
  }

  @Test
  void halvesOfNumbersThatHaveOneAreExact() {
    float[] x = {0, -0.0f, 1, -2.5f, 65504, 6.1035156e-5f, 5.9604645e-8f, Float.POSITIVE_INFINITY};
    ByteBuffer half = Buffers.bytes(2 * x.length);
    ByteBuffer back = Buffers.floats(x.length);
    core.toF16(x.length, Buffers.of(x), half);
    core.fromF16(x.length, half, back);
    assertArrayEquals(x, Buffers.toFloats(back, x.length));
    assertEquals((short) 0x3c00, half.getShort(4));
  }

  @Test
  void affineCodesAreClampedAndDecodeToTheirStep() {
    ByteBuffer low = Buffers.of(new float[] {-1, 0});
    ByteBuffer step = Buffers.of(new float[] {0.5f, 1});
    ByteBuffer codes = Buffers.bytes(4);
    core.encodeAffine(2, 2, Buffers.of(new float[] {-5, 2.4f, 0, 999}), low, step, null, codes);
    assertArrayEquals(new byte[] {0, 2, 2, (byte) 255}, Buffers.toBytes(codes, 4));
    core.encodeAffine(
        2, 2, Buffers.of(new float[] {99, 2.4f, 0, 999}), low, step, Buffers.of(new byte[] {2, 3}), codes);
    assertArrayEquals(new byte[] {3, 2, 2, 7}, Buffers.toBytes(codes, 4));
    ByteBuffer back = Buffers.floats(4);
    core.decodeAffine(2, 2, codes, low, step, back);
    assertArrayEquals(new float[] {0.5f, 2, 0, 7}, Buffers.toFloats(back, 4));
    assertThrows(
        KernelException.class,
        () -> core.encodeAffine(1, 1, Buffers.of(new float[] {Float.NaN}), low, step, null, codes));
  }

  @Test
  void packedBitsComeBack() {
    Random random = new Random(5);
    for (int channels : new int[] {1, 7, 40}) {
      byte[] bits = new byte[channels];
      int sum = 0;
      for (int d = 0; d < channels; d++) {
        bits[d] = (byte) random.nextInt(9);
        sum += bits[d];
      }
      int rows = 6;
      byte[] codes = new byte[rows * channels];
      for (int i = 0; i < codes.length; i++) {
        codes[i] = (byte) random.nextInt(1 << bits[i % channels]);
      }
      int row = core.packedBytes(channels, Buffers.of(bits));
      assertEquals((sum + 7) / 8, row);
      ByteBuffer packed = Buffers.bytes(rows * row);
      core.packBits(rows, channels, Buffers.of(codes), Buffers.of(bits), packed);
      ByteBuffer back = Buffers.bytes(codes.length);
      core.unpackBits(rows, channels, packed, Buffers.of(bits), back);
      assertArrayEquals(codes, Buffers.toBytes(back, codes.length));
    }
    assertThrows(KernelException.class, () -> core.packedBytes(1, Buffers.of(new byte[] {9})));
    KernelException wide =
        assertThrows(
            KernelException.class,
            () -> core.packBits(1, 1, Buffers.of(new byte[] {4}), Buffers.of(new byte[] {2}), Buffers.bytes(1)));
    assertTrue(wide.getMessage().contains("bits"), wide.getMessage());
  }

  @Test
  void theLargestLogitsStayAndTheRestKeepsTheirSoftmax() {
    float[] z = {1, 5, 3, -2};
    ByteBuffer kept = Buffers.bytes(4);
    ByteBuffer values = Buffers.floats(2);
    ByteBuffer rest = Buffers.floats(1);
    core.encodeTopK(1, 4, 2, Buffers.of(z), kept, values, rest);
    assertEquals(1, kept.getShort(0));
    assertEquals(2, kept.getShort(2));
    ByteBuffer back = Buffers.floats(4);
    core.decodeTopK(1, 4, 2, kept, values, rest, back);
    float[] got = Buffers.toFloats(back, 4);
    double[] before = Reference.logSoftmax(z, 0, 4, 1);
    double[] after = Reference.logSoftmax(got, 0, 4, 1);
    assertEquals(before[1], after[1], 1e-6);
    assertEquals(before[2], after[2], 1e-6);
    kept.putShort(0, (short) 4);
    assertThrows(KernelException.class, () -> core.decodeTopK(1, 4, 2, kept, values, rest, back));
  }
}

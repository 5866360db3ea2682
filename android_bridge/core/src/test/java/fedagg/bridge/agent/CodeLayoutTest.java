package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.AutoencoderFile;
import fedagg.bridge.wire.Fixtures;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

class CodeLayoutTest {
  @Test
  void tablesGiveTheNearestLevelOfEachValue() {
    byte[] bits = {2, 0, 1, 2};
    float[] scale = {1, 1, 10, 0.5f};
    Map<Integer, float[]> tables = new HashMap<>();
    tables.put(1, new float[] {-1, 1});
    tables.put(2, new float[] {-2, -0.5f, 0.5f, 3});
    CodeLayout layout = CodeLayout.tables(bits, scale, tables);
    Random random = new Random(3);
    int rows = 50;
    ByteBuffer z = Buffers.floats(rows * 4);
    for (int i = 0; i < rows * 4; i++) {
      z.putFloat(4 * i, (float) (4 * random.nextGaussian()));
    }
    try (DistillationCore core = DistillationCore.open()) {
      assertEquals(1, layout.bytes(core)); // 5 bits
      ByteBuffer codes = Buffers.bytes(rows);
      layout.encode(core, z, rows, codes);
      ByteBuffer back = Buffers.floats(rows * 4);
      layout.decode(core, codes, rows, back);
      for (int i = 0; i < rows * 4; i++) {
        float got = back.getFloat(4 * i);
        int d = i % 4;
        if (bits[d] == 0) {
          assertEquals(0, got);
          continue;
        }
        float best = Float.POSITIVE_INFINITY;
        for (float level : tables.get((int) bits[d])) {
          best = Math.min(best, Math.abs(level * scale[d] - z.getFloat(4 * i)));
        }
        assertEquals(best, Math.abs(got - z.getFloat(4 * i)), 1e-5);
      }
    }
  }

  @Test
  void affineValuesAreWithinHalfAStep() {
    CodeLayout layout = CodeLayout.affine(new float[] {-1, 0}, new float[] {0.01f, 0.5f});
    try (DistillationCore core = DistillationCore.open()) {
      ByteBuffer codes = Buffers.bytes(2);
      ByteBuffer back = Buffers.floats(2);
      layout.encode(core, Buffers.of(new float[] {0.337f, 7.3f}), 1, codes);
      layout.decode(core, codes, 1, back);
      assertTrue(Math.abs(back.getFloat(0) - 0.337f) <= 0.00501f && Math.abs(back.getFloat(4) - 7.3f) <= 0.2501f);
    }
  }

  /** tests/jvm/make_models.py: latents, and what Python made of them by the same file. */
  @Test
  void aFilesTablesGivePythonsCodes() throws Exception {
    Path files = Fixtures.root().resolve("tests/jvm/fixtures");
    CodeLayout layout = CodeLayout.of(AutoencoderFile.read(files.resolve("tables.safetensors")));
    ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(files.resolve("tables.bin"))).order(ByteOrder.LITTLE_ENDIAN);
    int rows = in.getInt();
    int values = in.getInt();
    int bytes = in.getInt();
    float[] latents = new float[rows * values];
    for (int i = 0; i < latents.length; i++) {
      latents[i] = in.getFloat();
    }
    byte[] expected = new byte[rows * bytes];
    in.get(expected);
    try (DistillationCore core = DistillationCore.open()) {
      assertEquals(bytes, layout.bytes(core));
      ByteBuffer codes = Buffers.bytes(rows * bytes);
      layout.encode(core, Buffers.of(latents), rows, codes);
      assertArrayEquals(expected, Buffers.toBytes(codes, rows * bytes));
      ByteBuffer back = Buffers.floats(rows * values);
      layout.decode(core, codes, rows, back);
      for (int i = 0; i < rows * values; i++) {
        assertEquals(in.getFloat(), back.getFloat(4 * i), "value " + i);
      }
    }
  }
}

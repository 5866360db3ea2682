package fedagg.bridge.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Fixtures;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files of the real writers: tests/jvm/make_models.py. */
class AutoencoderFileTest {
  private static final int FLOATS = 3 * 8 * 4;

  static byte[] file(String name) throws IOException {
    return Files.readAllBytes(Fixtures.root().resolve("tests/jvm/fixtures/" + name));
  }

  private static String refusal(byte[] content) {
    return assertThrows(ModelFileException.class, () -> AutoencoderFile.read(content)).getMessage();
  }

  /** The file with another text in its head, whose length is put right. */
  static byte[] with(String name, String old, String fresh) throws IOException {
    byte[] content = file(name);
    int head = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).getInt(0);
    String text = new String(content, 8, head, StandardCharsets.UTF_8);
    assertTrue(text.contains(old), old);
    byte[] changed = text.replace(old, fresh).getBytes(StandardCharsets.UTF_8);
    ByteBuffer made =
        ByteBuffer.allocate(content.length - head + changed.length).order(ByteOrder.LITTLE_ENDIAN);
    made.putLong(changed.length).put(changed).put(content, 8 + head, content.length - 8 - head);
    return made.array();
  }

  @Test
  void aFileSaysWhatSamplesAndCodesAre() throws Exception {
    AutoencoderFile found = AutoencoderFile.read(Fixtures.root().resolve("tests/jvm/fixtures/autoencoder.safetensors"));
    assertArrayEquals(new int[] {3, 8, 4}, found.sampleShape());
    assertArrayEquals(new int[] {2, 2, 1}, found.embeddingShape());
    assertEquals(4, found.embeddingBytes());
    assertArrayEquals(Digests.of(file("autoencoder.safetensors")), found.digest());
    assertTrue(found.isAffine());
    assertArrayEquals(new float[] {-1.5f, -1.5f, -1, -1}, found.codeLow());
    assertArrayEquals(new float[] {0.01f, 0.01f, 0.012f, 0.012f}, found.codeStep());
    assertThrows(IllegalStateException.class, found::bits);
  }

  @Test
  void codesOfMixedBitsAreReadToo() throws Exception {
    AutoencoderFile found = AutoencoderFile.read(file("tables.safetensors"));
    assertFalse(found.isAffine());
    assertArrayEquals(new byte[] {2, 1, 0, 2, 1, 0, 2, 1}, found.bits());
    assertEquals((2 + 1 + 2 + 1 + 2 + 1 + 7) / 8, found.embeddingBytes());
    assertArrayEquals(new float[] {-0.75f, 0.75f}, found.tables().get(1));
    assertArrayEquals(new float[] {-1.5f, -0.25f, 0.5f, 1.75f}, found.tables().get(2));
    assertEquals(0.5f, found.levelScale()[0]);
    assertThrows(IllegalStateException.class, found::codeLow);
  }

  @Test
  void rawSamplesAreScaledAsInPython() throws Exception {
    AutoencoderFile found = AutoencoderFile.read(file("autoencoder.safetensors"));
    ByteBuffer numbers = ByteBuffer.wrap(file("codec.bin")).order(ByteOrder.LITTLE_ENDIAN);
    int count = numbers.getInt(0);
    int scaled = 12 + 2 * 4 * 4 + 4 * count;
    int raw = numbers.capacity() - 4 * FLOATS * count;
    int clipped = 0;
    for (int n = 0; n < count; n++) {
      float[] sample = new float[FLOATS];
      float[] expected = new float[FLOATS];
      for (int i = 0; i < FLOATS; i++) {
        sample[i] = numbers.getFloat(raw + 4 * (n * FLOATS + i));
        expected[i] = numbers.getFloat(scaled + 4 * (n * FLOATS + i));
        clipped += expected[i] == 0 || expected[i] == 1 ? 1 : 0;
      }
      assertArrayEquals(expected, found.scale(sample)); // to the bit
    }
    assertTrue(clipped > 0);
    assertThrows(IllegalArgumentException.class, () -> found.scale(new float[1]));
    float[] bad = new float[FLOATS];
    bad[7] = Float.NaN;
    assertTrue(assertThrows(IllegalArgumentException.class, () -> found.scale(bad)).getMessage().contains("place 7"));
  }

  @Test
  void foreignAndTruncatedFilesAreRefused(@TempDir Path home) throws Exception {
    byte[] whole = file("autoencoder.safetensors");
    assertTrue(refusal(new byte[0]).contains("not a safetensors"));
    assertTrue(refusal(file("codec.tflite")).contains("not a safetensors"));
    assertTrue(refusal(Arrays.copyOf(whole, 500)).contains("truncated"));
    assertTrue(refusal(Arrays.copyOf(whole, whole.length - 1)).contains("truncated"));
    assertTrue(refusal(Arrays.copyOf(whole, whole.length + 1)).contains("damaged"));
    assertTrue(refusal(new byte[(1 << 20) + 1]).contains("at most"));
    Path large = home.resolve("large");
    Files.write(large, new byte[(1 << 20) + 1]);
    assertThrows(ModelFileException.class, () -> AutoencoderFile.read(large));
    assertTrue(refusal(with("autoencoder.safetensors", "fedagg-autoencoder", "else")).contains("got format else"));
    assertTrue(refusal(with("autoencoder.safetensors", "schema\\\": 1", "schema\\\": 3")).contains("schema 3"));
    assertTrue(refusal(with("autoencoder.safetensors", "\"fedagg\"", "\"other\"")).contains("is missing"));
  }

  @Test
  void aDamagedFileIsToldByItsDigest() throws Exception {
    byte[] whole = file("autoencoder.safetensors");
    byte[] pinned = Digests.of(whole);
    AutoencoderFile.read(whole).expect(pinned);
    whole[whole.length - 5] ^= 1;
    AutoencoderFile damaged = AutoencoderFile.read(whole); // it cannot be seen in a weight
    assertTrue(assertThrows(ModelFileException.class, () -> damaged.expect(pinned)).getMessage().contains("damaged"));
  }

  @Test
  void numbersThatMakeNoCodeAreRefused() throws Exception {
    String[][] affine = {
      {"uint8-affine-per-channel", "uint9", "layout.name"},
      {"sample_bytes\\\": 4", "sample_bytes\\\": 5", "sample_bytes"},
      {"embedding_shape\\\": [2, 2, 1]", "embedding_shape\\\": [2, 2]", "dimensions"},
      {"embedding_shape\\\": [2, 2, 1]", "embedding_shape\\\": [2, 0, 1]", "integer from 1"},
      {"embedding_shape\\\": [2, 2, 1]", "embedding_shape\\\": [1, 4, 1]", "each of 1 channels"},
      {"sample_shape\\\": [3, 8, 4]", "sample_shape\\\": [3, 4000, 4000]", "at most"},
      {"sample_shape\\\": [3, 8, 4]", "sample_shape\\\": [4, 8, 4]", "each of 4 channels"},
      {"\\\"high\\\": [255.0", "\\\"high\\\": [0.0", "low below high"},
      {"\\\"low\\\": [-1.5, -1.0]", "\\\"low\\\": [-1.5, 1e39]", "finite"},
      {"step\\\": [0.009999999776482582", "step\\\": [-1", "above 0"},
    };
    for (String[] each : affine) {
      String said = refusal(with("autoencoder.safetensors", each[0], each[1]));
      assertTrue(said.contains(each[2]), said);
    }
    String[][] tables = {
      {"bits\\\": \\\"21021021\\\"", "bits\\\": \\\"2102102\\\"", "8 digits"},
      {"bits\\\": \\\"21021021\\\"", "bits\\\": \\\"00000000\\\"", "some above 0"},
      {"bits\\\": \\\"21021021\\\"", "bits\\\": \\\"21021020\\\"", "layout.scale"},
      {"bits\\\": \\\"21021021\\\"", "bits\\\": \\\"21121021\\\"", "for more values"},
      {"bits\\\": \\\"21021021\\\"", "bits\\\": \\\"22022022\\\"", "layout.tables"},
      {"bits\\\": \\\"21021021\\\"", "bits\\\": \\\"31021021\\\"", "is missing"},
      {"[-0.75, 0.75]", "[0.75, -0.75]", "rise"},
      {"[-0.75, 0.75]", "[0.75]", "2 levels"},
    };
    for (String[] each : tables) {
      String said = refusal(with("tables.safetensors", each[0], each[1]));
      assertTrue(said.contains(each[2]), said);
    }
  }

  @Test
  void whateverTheHeadSaysItIsReadOrRefused() throws Exception {
    Random random = new Random(4);
    int refused = 0;
    for (int i = 0; i < Fixtures.trials(); i++) {
      byte[] changed = file(i % 2 == 0 ? "autoencoder.safetensors" : "tables.safetensors");
      for (int n = 0; n < 1 + i % 3; n++) {
        changed[random.nextInt(n == 0 ? 2000 : 1700)] = (byte) (random.nextBoolean() ? '0' + random.nextInt(10) : random.nextInt());
      }
      try {
        AutoencoderFile.read(changed);
      } catch (ModelFileException error) {
        refused++;
      }
    }
    assertTrue(refused > Fixtures.trials() / 3, refused + " refused");
  }
}

package fedagg.bridge.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Fixtures;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;

/**
 * Files of the real exporter: `fedagg export cnn3 --sample-shape 1 4 4 --classes 3 --seed 1 --out
 * tests/jvm/fixtures/cnn3.tflite`, and an older one whose description is plain (tests/arm64/make_fixtures.py).
 */
class TrainingFileTest {
  private static byte[] file(String name) throws IOException {
    return Files.readAllBytes(Fixtures.root().resolve(name));
  }

  private static byte[] cnn() throws IOException {
    return file("tests/jvm/fixtures/cnn3.tflite");
  }

  private static String refusal(byte[] content) {
    return assertThrows(ModelFileException.class, () -> TrainingFile.read(content)).getMessage();
  }

  private static byte[] sealed(byte[] changed) {
    byte[] digest = Digests.of(Arrays.copyOf(changed, changed.length - 32));
    System.arraycopy(digest, 0, changed, changed.length - 32, 32);
    return changed;
  }

  @Test
  void aFileSaysWhatItsModelIs() throws Exception {
    TrainingFile found = TrainingFile.read(cnn());
    assertArrayEquals(new int[] {1, 4, 4}, found.sampleShape());
    assertEquals(3, found.classes());
    ModelEntry first = found.entries().get(0);
    assertEquals("0.weight", first.name);
    assertArrayEquals(new int[] {8, 1, 3, 3}, first.shape());
    assertEquals(3, found.counted().length); // batches seen, of three batch norms
    assertEquals(2 * (8 + 24 + 40), found.seen() - found.trained());
    assertTrue(found.changesBuffers());
    assertFalse(found.rowsApart());
    float[] weights = found.weights();
    assertEquals(found.seen() + 3, weights.length);
    for (ModelEntry entry : found.entries()) {
      if (entry.name.endsWith("running_var")) {
        assertEquals(ModelEntry.Kind.BUFFER, entry.kind);
        assertEquals(1, weights[entry.start]);
      }
    }
    assertEquals(cnn().length, found.model().remaining());
    assertTrue(found.model().isDirect());
  }

  @Test
  void aPlainDescriptionIsReadToo() throws Exception {
    TrainingFile found = TrainingFile.read(file("tests/arm64/fixtures/mlp.tflite"));
    assertEquals(5, found.classes());
    assertEquals(8 * 64 + 8 + 5 * 8 + 5, found.trained());
    assertTrue(found.rowsApart());
    assertFalse(found.changesBuffers());
  }

  @Test
  void foreignTruncatedAndDamagedFilesAreToldApart() throws Exception {
    assertTrue(refusal(new byte[0]).contains("not a .tflite"));
    assertTrue(refusal(Arrays.copyOf(cnn(), cnn().length - 1)).contains("truncated"));
    byte[] damaged = cnn();
    damaged[damaged.length / 2] ^= 1;
    assertTrue(refusal(damaged).contains("damaged"));
  }

  @Test
  void whateverIsSealedIsReadOrRefused() throws Exception {
    Random random = new Random(3);
    int refused = 0;
    for (int i = 0; i < Fixtures.trials(); i++) {
      byte[] changed = cnn();
      for (int n = 0; n < 20; n++) {
        changed[8 + random.nextInt(changed.length - 48)] = (byte) random.nextInt();
      }
      changed[random.nextInt(4)] = (byte) random.nextInt();
      try {
        TrainingFile.read(sealed(changed));
      } catch (ModelFileException error) {
        refused++;
      }
    }
    assertTrue(refused > 0);
  }

  @Test
  void jsonIsStrictAndBounded() {
    for (String bad : new String[] {"{", "{\"a\":1,\"a\":2}", "[1,]", "NaN", "01", "\"\\x\"", "1 2", "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]"}) {
      assertThrows(ModelFileException.class, () -> Json.read(bad.getBytes(StandardCharsets.UTF_8)), bad);
    }
  }
}

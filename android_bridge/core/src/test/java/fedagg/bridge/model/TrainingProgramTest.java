package fedagg.bridge.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Fixtures;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** A file of the real exporter: tests/jvm/make_program.py. */
public class TrainingProgramTest {
  private static final int FOOTER = 64;

  private static byte[] file() throws IOException {
    return AutoencoderFileTest.file("small.pte");
  }

  private static String refusal(byte[] content) {
    return assertThrows(ModelFileException.class, () -> TrainingProgram.read(content)).getMessage();
  }

  /** A file of three parts. */
  public static byte[] sealed(byte[] program, String description, byte[] weights) {
    byte[] about = description.getBytes(StandardCharsets.UTF_8);
    ByteBuffer made =
        ByteBuffer.allocate(program.length + about.length + weights.length + FOOTER).order(ByteOrder.LITTLE_ENDIAN);
    made.put(program).put(about).put(weights);
    made.putLong(program.length).putLong(about.length).putLong(weights.length);
    made.put("FAGGETPT".getBytes(StandardCharsets.US_ASCII));
    made.put(Digests.of(Arrays.copyOf(made.array(), made.position())));
    return made.array();
  }

  private static byte[][] parts(byte[] content) {
    ByteBuffer in = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
    int program = (int) in.getLong(content.length - FOOTER);
    int description = (int) in.getLong(content.length - FOOTER + 8);
    int end = program + description;
    return new byte[][] {
      Arrays.copyOf(content, program), Arrays.copyOfRange(content, program, end),
      Arrays.copyOfRange(content, end, content.length - FOOTER)
    };
  }

  private static byte[] with(String old, String fresh) throws IOException {
    byte[][] parts = parts(file());
    String about = new String(parts[1], StandardCharsets.UTF_8);
    assertTrue(about.contains(old), old + " in " + about);
    return sealed(parts[0], about.replace(old, fresh), parts[2]);
  }

  @Test
  void aFileSaysWhatItsModelIs() throws Exception {
    TrainingProgram found = TrainingProgram.read(Fixtures.root().resolve("tests/jvm/fixtures/small.pte"));
    assertArrayEquals(new int[] {1, 4, 4}, found.sampleShape());
    assertEquals(3, found.classes());
    assertEquals(8, found.rows());
    assertEquals(8, found.noiseColumns());
    assertEquals(2 * 9 + 2 + 2 + 2 + 3 * 8 + 3, found.trained());
    assertEquals(found.trained() + 2 + 2 + 1, found.weights().length);
    ModelEntry last = found.entries().get(8);
    assertEquals("1.num_batches_tracked", last.name);
    assertEquals(ModelEntry.Kind.COUNTER, last.kind);
    assertEquals(1, last.size);
    assertArrayEquals(new int[] {0, 1, 2}, found.changed());
    assertEquals(Arrays.asList("parameter:2", "x", "upstream", "output:4"), found.backward().subList(0, 4));
    assertArrayEquals(Digests.of(file()), found.digest());
    for (int i = 0; i < 2; i++) {
      assertEquals(1, found.weights()[found.entries().get(7).start + i]); // running variance
    }
  }

  @Test
  void foreignTruncatedAndDamagedFilesAreToldApart() throws Exception {
    assertTrue(refusal(new byte[0]).contains("not a .pte"));
    assertTrue(refusal(AutoencoderFileTest.file("codec.tflite")).contains("not a .pte"));
    assertTrue(refusal(Arrays.copyOf(file(), file().length - 1)).contains("truncated"));
    byte[] damaged = file();
    damaged[damaged.length / 2] ^= 1;
    assertTrue(refusal(damaged).contains("damaged"));
  }

  @Test
  void masksThatJavaCannotHoldAreRefusedByName() throws Exception {
    String said = refusal(with("\"uint8\"", "\"bool\""));
    assertTrue(said.contains("output 9 of its method forward is bool") && said.contains("export the model again"), said);
  }

  @Test
  void anOlderFileThatDoesNotSayIsRead() throws Exception {
    assertEquals(3, TrainingProgram.read(with("\"output_dtypes\"", "\"other\"")).classes());
  }

  @Test
  void descriptionsThatDoNotFitAreRefused() throws Exception {
    String[][] cases = {
      {"fedagg-executorch", "else", "got else"},
      {"\"schema\":1", "\"schema\":2", "schema 2"},
      {"\"noise_columns\":8", "\"noise_columns\":-1", "integer from 0"},
      {"\"rows\":8,\"sample", "\"rows\":0,\"sample", "integer from 1"},
      {"\"sample_shape\":[1,4,4]", "\"sample_shape\":[]", "no sizes"},
      {"\"changed_buffers\":[0,1,2]", "\"changed_buffers\":[0,1,3]", "changed_buffers"},
      {"\"changed_buffers\":[0,1,2]", "\"changed_buffers\":[0,1,1]", "changed_buffers"},
      {"\"parameter:2\"", "\"parameter:6\"", "parameter:6"},
      {"\"output:4\"", "\"output:15\"", "output:15"},
      {"\"output:4\"", "\"weights\"", "'weights'"},
      {"[],false,\"int64\"", "[],false,\"int32\"", "int32"},
      {"[],false,\"int64\"", "[2],false,\"int64\"", "weights: got"},
      {"[3],true,\"float32\"", "[3],true,\"int64\"", "trained and whole"},
      {"\"0.bias\"", "\"0.weight\"", "comes twice"},
    };
    for (String[] each : cases) {
      String said = refusal(with(each[0], each[1]));
      assertTrue(said.contains(each[2]), each[1] + ": " + said);
    }
  }

  @Test
  void whateverIsSealedIsReadOrRefused() throws Exception {
    byte[][] parts = parts(file());
    Random random = new Random(7);
    int refused = 0;
    for (int i = 0; i < Fixtures.trials(); i++) {
      byte[] about = parts[1].clone();
      for (int n = 0; n < 3; n++) {
        about[random.nextInt(about.length)] = (byte) (random.nextBoolean() ? '0' + random.nextInt(10) : random.nextInt(128));
      }
      byte[] changed = sealed(parts[0], new String(about, StandardCharsets.US_ASCII), parts[2]);
      if (i % 3 == 0) { // or the lengths
        changed[changed.length - FOOTER + random.nextInt(24)] = (byte) random.nextInt();
        byte[] digest = Digests.of(Arrays.copyOf(changed, changed.length - 32));
        System.arraycopy(digest, 0, changed, changed.length - 32, 32);
      }
      try {
        TrainingProgram.read(changed);
      } catch (ModelFileException error) {
        refused++;
      }
    }
    assertTrue(refused > Fixtures.trials() / 3, refused + " refused");
  }
}

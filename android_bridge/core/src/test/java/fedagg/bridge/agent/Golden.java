package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.zip.ZipFile;

/** Steps that torch took (tests/jvm/steps.py, tests/golden/replay.py), from NumPy's .npz, and a trainer beside them. */
final class Golden {
  private final Path file;

  Golden(Path file) {
    this.file = file;
  }

  /** An array's bytes, after a head that says its type, which must be the one that is expected. */
  private ByteBuffer array(String name, String type) throws IOException {
    try (ZipFile zip = new ZipFile(file.toFile())) {
      byte[] all = zip.getInputStream(zip.getEntry(name + ".npy")).readAllBytes();
      ByteBuffer found = ByteBuffer.wrap(all).order(ByteOrder.LITTLE_ENDIAN);
      int head = found.getShort(8) & 0xffff;
      String about = new String(all, 10, head, StandardCharsets.US_ASCII);
      assertTrue(about.contains("'" + type + "'") && about.contains("'fortran_order': False"), about);
      found.position(10 + head);
      return found.slice().order(ByteOrder.LITTLE_ENDIAN);
    }
  }

  float[] floats(String name) throws IOException {
    ByteBuffer found = array(name, "<f4");
    float[] values = new float[found.remaining() / 4];
    found.asFloatBuffer().get(values);
    return values;
  }

  private long[] longs(String name) throws IOException {
    ByteBuffer found = array(name, "<i8");
    long[] values = new long[found.remaining() / 8];
    found.asLongBuffer().get(values);
    return values;
  }

  /** Takes the steps; weights are compared where the file has them, within {@code first} and {@code last}. */
  void replay(OnDeviceTrainer trainer, int steps, double first, double last) throws Exception {
    Hyperparameters h = Hyperparameters.builder().learningRate(0.05).weightDecay(1e-3).build(); // as the files' plans
    for (int i = 0; i < steps; i++) {
      long[] labels = longs("y_" + i);
      trainer.step(
          new Batch(
              labels.length, Buffers.of(floats("x_" + i)), Buffers.of(floats("bridge_" + i)), Buffers.of(labels),
              Buffers.of(floats("teacher_" + i))),
          h);
      if (i == 0 || i == steps - 1) {
        float[] expected = floats("weights_" + i);
        ByteBuffer state = ByteBuffer.wrap(trainer.save()).order(ByteOrder.LITTLE_ENDIAN);
        for (int k = 0; k < expected.length; k++) {
          assertEquals(expected[k], state.getFloat(4 * k), i == 0 ? first : last, "step " + i + ", weight " + k);
        }
      }
    }
  }

  /** The logits of all samples of the file, in one call. */
  void logits(OnDeviceTrainer trainer, double tolerance) throws Exception {
    float[] samples = floats("samples");
    float[] expected = floats("logits");
    int rows = samples.length / trainer.sampleFloats();
    assertEquals(expected.length, rows * trainer.classes());
    ByteBuffer found = Buffers.floats(expected.length);
    trainer.logits(Buffers.of(samples), rows, found);
    for (int k = 0; k < expected.length; k++) {
      assertEquals(expected[k], found.getFloat(4 * k), tolerance, "logit " + k);
    }
  }
}

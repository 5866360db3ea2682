package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * An autoencoder's networks as a table of what they gave for some samples, written by tests/jvm/fleet.py: it stands for
 * the codec file that a phone's TFLite runs. The byte code between the two networks is the C++ core's.
 */
final class TableNetworks implements LatentNetworks {
  final int count;
  final int[] labels;
  final float[][] samples;
  final byte[][] codes; // as Python's core made them
  final float[] low;
  final float[] step;
  private final int floats;
  private final int values;
  private final Map<String, float[]> latentOf = new HashMap<>();
  private final Map<String, float[]> sampleOf = new HashMap<>();
  private final CodeLayout layout;
  private final DistillationCore core;

  TableNetworks(Path path, DistillationCore core) throws IOException {
    ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    count = in.getInt();
    floats = in.getInt();
    values = in.getInt();
    low = floats(in, values);
    step = floats(in, values);
    labels = new int[count];
    for (int i = 0; i < count; i++) {
      labels[i] = in.getInt();
    }
    samples = new float[count][];
    codes = new byte[count][];
    for (int i = 0; i < count; i++) {
      samples[i] = floats(in, floats);
    }
    for (int i = 0; i < count; i++) {
      latentOf.put(Arrays.toString(samples[i]), floats(in, values));
    }
    for (int i = 0; i < count; i++) {
      codes[i] = new byte[values];
      in.get(codes[i]);
    }
    for (int i = 0; i < count; i++) {
      sampleOf.put(Arrays.toString(codes[i]), floats(in, floats));
    }
    layout = CodeLayout.affine(low, step);
    this.core = core;
  }

  private static float[] floats(ByteBuffer in, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = in.getFloat();
    }
    return values;
  }

  /** What Python decoded the code of a sample to. */
  float[] bridgeSample(int number) {
    return sampleOf.get(Arrays.toString(codes[number]));
  }

  @Override
  public int sampleFloats() {
    return floats;
  }

  @Override
  public int latentFloats() {
    return values;
  }

  @Override
  public void encode(ByteBuffer in, int rows, ByteBuffer latents) {
    copy(in, floats, rows, latentOf, latents, values);
  }

  @Override
  public void decode(ByteBuffer latents, int rows, ByteBuffer out) {
    // a latent that came from a code has that code again, whatever its last bit
    ByteBuffer again = Buffers.bytes(rows * values);
    layout.encode(core, latents, rows, again);
    for (int n = 0; n < rows; n++) {
      byte[] code = new byte[values];
      again.get(code);
      put(out, n, sampleOf.get(Arrays.toString(code)));
    }
  }

  private static void copy(
      ByteBuffer in, int size, int rows, Map<String, float[]> table, ByteBuffer out, int outSize) {
    for (int n = 0; n < rows; n++) {
      float[] key = new float[size];
      for (int i = 0; i < size; i++) {
        key[i] = in.getFloat(4 * (n * size + i));
      }
      put(out, n, table.get(Arrays.toString(key)));
    }
  }

  private static void put(ByteBuffer out, int row, float[] values) {
    for (int i = 0; i < values.length; i++) {
      out.putFloat(4 * (row * values.length + i), values[i]);
    }
  }
}

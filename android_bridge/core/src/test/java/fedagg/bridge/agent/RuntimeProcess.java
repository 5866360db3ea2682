package fedagg.bridge.agent;

import fedagg.bridge.wire.Fixtures;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** A device's real runtime, TFLite or ExecuTorch, in a Python process: tests/jvm/runtime.py, which has the frames' layout. */
final class RuntimeProcess implements AutoCloseable {
  static final int AS_IT_IS = 255;
  static final int FLOAT = 0;
  static final int INT64 = 1;
  static final int UINT8 = 2;
  private static final int LARGEST = 1 << 28;

  /** An array: its type, its shape, or null for the one that the runtime has, its bytes in little-endian order. */
  static final class Value {
    final int type;
    final int[] shape;
    final byte[] data;

    Value(int type, int[] shape, byte[] data) {
      this.type = type;
      this.shape = shape;
      this.data = data;
    }

    float[] floats() {
      float[] found = new float[data.length / 4];
      ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(found);
      return found;
    }

    long[] longs() {
      long[] found = new long[data.length / 8];
      ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().get(found);
      return found;
    }
  }

  private final Process process;
  private final DataOutputStream out;
  private final InputStream in;

  /** A runtime of that Python for a model. */
  RuntimeProcess(String python, byte[] model) throws IOException {
    ProcessBuilder builder = new ProcessBuilder(python, Fixtures.root().resolve("tests/jvm/runtime.py").toString());
    builder.redirectError(ProcessBuilder.Redirect.DISCARD);
    process = builder.start();
    out = new DataOutputStream(process.getOutputStream());
    in = process.getInputStream();
    send(model);
  }

  private void send(byte[] frame) throws IOException {
    out.writeInt(Integer.reverseBytes(frame.length));
    out.write(frame);
    out.flush();
  }

  /** Throws IllegalArgumentException with what the runtime says against it. */
  Map<String, Value> call(String signature, Map<String, Value> inputs) {
    try {
      send(request(signature, inputs));
      ByteBuffer length = ByteBuffer.wrap(exactly(4)).order(ByteOrder.LITTLE_ENDIAN);
      int size = length.getInt();
      if (size < 1 || size > LARGEST) {
        throw new IOException("got an answer of " + size + " bytes");
      }
      ByteBuffer answer = ByteBuffer.wrap(exactly(size)).order(ByteOrder.LITTLE_ENDIAN);
      if (answer.get() != 0) {
        throw new IllegalArgumentException(StandardCharsets.UTF_8.decode(answer).toString());
      }
      Map<String, Value> found = new LinkedHashMap<>();
      for (int n = answer.getShort(); n > 0; n--) {
        String name = new String(bytes(answer, answer.getShort()), StandardCharsets.UTF_8);
        int type = answer.get();
        int[] shape = new int[answer.get()];
        int count = type == UINT8 ? 1 : type == INT64 ? 8 : 4;
        for (int d = 0; d < shape.length; d++) {
          shape[d] = answer.getInt();
          count = Math.multiplyExact(count, shape[d]);
        }
        found.put(name, new Value(type, shape, bytes(answer, count)));
      }
      return found;
    } catch (IOException error) {
      throw new IllegalStateException("the runtime's process has ended: " + error.getMessage(), error);
    }
  }

  private static byte[] request(String signature, Map<String, Value> inputs) throws IOException {
    ByteArrayOutputStream to = new ByteArrayOutputStream();
    name(to, signature);
    little(to, inputs.size(), 2);
    for (Map.Entry<String, Value> each : inputs.entrySet()) {
      Value value = each.getValue();
      name(to, each.getKey());
      little(to, value.type, 1);
      little(to, value.shape == null ? AS_IT_IS : value.shape.length, 1);
      for (int side : value.shape == null ? new int[] {value.data.length} : value.shape) {
        little(to, side, 4);
      }
      to.write(value.data);
    }
    return to.toByteArray();
  }

  private static void name(ByteArrayOutputStream to, String name) throws IOException {
    byte[] text = name.getBytes(StandardCharsets.UTF_8);
    little(to, text.length, 2);
    to.write(text);
  }

  private static void little(ByteArrayOutputStream to, int number, int bytes) {
    for (int i = 0; i < bytes; i++) {
      to.write(number >>> 8 * i);
    }
  }

  private static byte[] bytes(ByteBuffer from, int count) {
    byte[] found = new byte[count];
    from.get(found);
    return found;
  }

  private byte[] exactly(int count) throws IOException {
    byte[] found = in.readNBytes(count);
    if (found.length != count) {
      throw new EOFException("got " + found.length + " of " + count + " bytes");
    }
    return found;
  }

  @Override
  public void close() {
    process.destroy();
  }
}

package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.LinkedHashMap;
import java.util.Map;
import org.tensorflow.lite.Interpreter;

/**
 * TFLite's runtime for Python (ai-edge-litert) behind the shape of its Java class, in a process. As the Java class is documented:
 * an array's shape is the input's new one, a buffer must have the size that the input has, outputs go where a buffer's position is.
 */
final class ProcessInterpreter extends Interpreter {
  private final RuntimeProcess process;

  ProcessInterpreter(ByteBuffer model) {
    try {
      process = new RuntimeProcess(System.getProperty("fedagg.litert"), Buffers.toBytes(model, model.remaining()));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  @Override
  public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
    Map<String, RuntimeProcess.Value> given = new LinkedHashMap<>();
    for (Map.Entry<String, Object> each : inputs.entrySet()) {
      given.put(each.getKey(), value(each.getValue()));
    }
    Map<String, RuntimeProcess.Value> found = process.call(signature, given);
    for (Map.Entry<String, Object> each : outputs.entrySet()) {
      RuntimeProcess.Value value = found.get(each.getKey());
      ByteBuffer into = (ByteBuffer) each.getValue();
      if (value == null || value.data.length > into.remaining()) {
        throw new IllegalArgumentException("output " + each.getKey() + ": there is none, or no room for it");
      }
      for (float number : value.floats()) {
        into.putFloat(number);
      }
    }
  }

  private static RuntimeProcess.Value value(Object from) {
    if (from instanceof ByteBuffer) {
      ByteBuffer buffer = (ByteBuffer) from;
      if (!buffer.isDirect() || buffer.order() != ByteOrder.nativeOrder()) {
        throw new IllegalArgumentException("got a buffer that is not direct, or in another byte order");
      }
      return new RuntimeProcess.Value(RuntimeProcess.FLOAT, null, Buffers.toBytes(buffer, buffer.remaining()));
    }
    int[] shape = new int[0];
    int count = 1;
    for (Object at = from; at != null && at.getClass().isArray(); ) {
      int side = Array.getLength(at);
      shape = java.util.Arrays.copyOf(shape, shape.length + 1);
      shape[shape.length - 1] = side;
      count *= side;
      at = at instanceof float[] ? null : Array.get(at, 0);
    }
    ByteBuffer data = ByteBuffer.allocate(4 * count).order(ByteOrder.LITTLE_ENDIAN);
    fill(from, data);
    return new RuntimeProcess.Value(RuntimeProcess.FLOAT, shape, data.array());
  }

  private static void fill(Object from, ByteBuffer into) {
    if (from instanceof float[]) {
      for (float each : (float[]) from) {
        into.putFloat(each);
      }
      return;
    }
    for (Object each : (Object[]) from) {
      fill(each, into);
    }
  }

  @Override
  public void close() {
    process.close();
  }
}

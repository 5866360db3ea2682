package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.model.AutoencoderFile;
import fedagg.bridge.model.CodecFile;
import java.nio.ByteBuffer;
import java.util.Collections;
import java.util.Map;
import org.tensorflow.lite.Interpreter;

/** An autoencoder's networks in TensorFlow Lite, from its codec's file. A few rows at a time, so that memory is bounded. */
public final class TfliteNetworks implements LatentNetworks, AutoCloseable {
  private static final int ROWS = 64; // most at once, as in Python

  private final Interpreter interpreter;
  private final int[] sampleShape;
  private final int[] latentShape;

  /** The interpreter, {@code new Interpreter(file.model())}, is closed with this. */
  public TfliteNetworks(Interpreter interpreter, CodecFile file) {
    this.interpreter = interpreter;
    AutoencoderFile autoencoder = file.autoencoder();
    sampleShape = autoencoder.sampleShape();
    latentShape = new int[] {autoencoder.latentFloats()};
  }

  @Override
  public int sampleFloats() {
    return TfliteModel.product(sampleShape);
  }

  @Override
  public int latentFloats() {
    return latentShape[0];
  }

  @Override
  public void encode(ByteBuffer samples, int rows, ByteBuffer latents) {
    run("encode", samples, sampleShape, rows, latents, latentFloats());
  }

  @Override
  public void decode(ByteBuffer latents, int rows, ByteBuffer samples) {
    run("decode", latents, latentShape, rows, samples, sampleFloats());
  }

  private void run(String signature, ByteBuffer in, int[] shape, int rows, ByteBuffer out, int outFloats) {
    int floats = TfliteModel.product(shape);
    ByteBuffer from = in.duplicate().order(in.order());
    ByteBuffer to = out.duplicate();
    from.clear();
    to.clear();
    for (int at = 0; at < rows; at += ROWS) {
      int count = Math.min(ROWS, rows - at);
      from.position(4 * at * floats);
      Object x = TfliteTrainer.nested(Buffers.toFloats(from, count * floats), count, shape);
      Map<String, Object> inputs = Collections.singletonMap("x", x);
      ByteBuffer y = Buffers.floats(count * outFloats);
      try {
        interpreter.runSignature(inputs, Collections.singletonMap("y", y), signature);
      } catch (IllegalArgumentException | IllegalStateException error) {
        throw new IllegalStateException(
            "TFLite: cannot run " + signature + ": " + error.getMessage() + "; is the model the codec's?", error);
      }
      y.clear();
      to.put(y);
    }
  }

  @Override
  public void close() {
    interpreter.close();
  }
}

package fedagg.bridge.agent;

import java.nio.ByteBuffer;

/**
 * Softmax regression in plain Java: logits = x W + b. It stands for the phone's runtime (TFLite, ExecuTorch), which no JVM
 * on a desk has; loss, codec and update around it are the C++ core's, as on a phone.
 */
final class SoftmaxEngine implements Engine {
  private final int floats;
  private final int classes;

  SoftmaxEngine(int floats, int classes) {
    this.floats = floats;
    this.classes = classes;
  }

  @Override
  public int sampleFloats() {
    return floats;
  }

  @Override
  public int classes() {
    return classes;
  }

  @Override
  public int parameters() {
    return (floats + 1) * classes;
  }

  @Override
  public void initial(ByteBuffer weights) {
    for (int i = 0; i < parameters(); i++) {
      weights.putFloat(4 * i, 0);
    }
  }

  @Override
  public void forward(ByteBuffer weights, ByteBuffer samples, int rows, boolean training, ByteBuffer logits) {
    for (int n = 0; n < rows; n++) {
      for (int c = 0; c < classes; c++) {
        float sum = weights.getFloat(4 * (floats * classes + c));
        for (int d = 0; d < floats; d++) {
          sum += samples.getFloat(4 * (n * floats + d)) * weights.getFloat(4 * (d * classes + c));
        }
        logits.putFloat(4 * (n * classes + c), sum);
      }
    }
  }

  @Override
  public void backward(ByteBuffer weights, ByteBuffer samples, int rows, ByteBuffer upstream, ByteBuffer gradient) {
    for (int n = 0; n < rows; n++) {
      for (int c = 0; c < classes; c++) {
        float slope = upstream.getFloat(4 * (n * classes + c));
        add(gradient, floats * classes + c, slope);
        for (int d = 0; d < floats; d++) {
          add(gradient, d * classes + c, slope * samples.getFloat(4 * (n * floats + d)));
        }
      }
    }
  }

  private static void add(ByteBuffer buffer, int i, float value) {
    buffer.putFloat(4 * i, buffer.getFloat(4 * i) + value);
  }

  @Override
  public void close() {}
}

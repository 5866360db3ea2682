package fedagg.bridge.kernels;

import java.nio.ByteBuffer;

/** The native methods, as android_bridge/jni/module.cpp registers them. Each buffer comes with its first byte. */
final class Native {
  private static boolean loaded;

  private Native() {}

  /** Loads the library: the file that the property fedagg.jni names, else libfedagg_jni from the library path. */
  static synchronized void load() {
    if (loaded) {
      return;
    }
    String file = System.getProperty("fedagg.jni");
    try {
      if (file == null) {
        System.loadLibrary("fedagg_jni");
      } else {
        System.load(file);
      }
    } catch (UnsatisfiedLinkError error) {
      throw new KernelException(
          "the native core could not be loaded: " + error.getMessage()
              + "; pack libfedagg_jni.so for this machine, or set -Dfedagg.jni=<its file>",
          error);
    }
    loaded = true;
  }

  static native long open(int threads);

  static native void close(long handle);

  static native String[] availableIsas();

  static native String activeIsa();

  static native void setActiveIsa(String name);

  static native void distill(
      long handle, int rows, int classes, ByteBuffer student, int studentAt, ByteBuffer teacher, int teacherAt,
      int teacherType, ByteBuffer scale, int scaleAt, ByteBuffer labels, int labelsAt, ByteBuffer mask, int maskAt,
      ByteBuffer weights, int weightsAt, ByteBuffer gradient, int gradientAt, double ceWeight, double klWeight,
      double temperature, double teacherTemperature, boolean reverse, double[] loss);

  static native void aggregate(
      long handle, int rows, int classes, ByteBuffer[] teachers, ByteBuffer[] scales, int[] places, ByteBuffer weights,
      int weightsAt, ByteBuffer sampleWeights, int sampleWeightsAt, ByteBuffer mask, int maskAt, int method, double trim,
      ByteBuffer out, int outAt);

  static native void confidence(
      long handle, int rows, int classes, ByteBuffer logits, int at, int type, ByteBuffer scale, int scaleAt,
      ByteBuffer out, int outAt);

  static native void toF16(int count, ByteBuffer x, int at, ByteBuffer out, int outAt);

  static native void fromF16(int count, ByteBuffer x, int at, ByteBuffer out, int outAt);

  static native void quantise(
      int rows, int classes, ByteBuffer x, int at, ByteBuffer out, int outAt, ByteBuffer scale, int scaleAt);

  static native void dequantise(
      int rows, int classes, ByteBuffer x, int at, ByteBuffer scale, int scaleAt, ByteBuffer out, int outAt);

  static native void encodeAffine(
      int rows, int channels, ByteBuffer x, int at, ByteBuffer low, int lowAt, ByteBuffer step, int stepAt,
      ByteBuffer bits, int bitsAt, ByteBuffer out, int outAt);

  static native void decodeAffine(
      int rows, int channels, ByteBuffer x, int at, ByteBuffer low, int lowAt, ByteBuffer step, int stepAt,
      ByteBuffer out, int outAt);

  static native int packedBytes(int channels, ByteBuffer bits, int bitsAt);

  static native void packBits(
      int rows, int channels, ByteBuffer codes, int at, ByteBuffer bits, int bitsAt, ByteBuffer out, int outAt);

  static native void unpackBits(
      int rows, int channels, ByteBuffer packed, int at, ByteBuffer bits, int bitsAt, ByteBuffer out, int outAt);

  static native void encodeTopK(
      int rows, int classes, int k, ByteBuffer x, int at, ByteBuffer kept, int keptAt, ByteBuffer values, int valuesAt,
      ByteBuffer rest, int restAt);

  static native void decodeTopK(
      int rows, int classes, int k, ByteBuffer kept, int keptAt, ByteBuffer values, int valuesAt, ByteBuffer rest,
      int restAt, ByteBuffer out, int outAt);

  static native void sgdStep(
      int count, ByteBuffer parameters, int at, ByteBuffer gradient, int gradientAt, ByteBuffer velocity,
      int velocityAt, float learningRate, float momentum, float weightDecay, boolean nesterov);
}

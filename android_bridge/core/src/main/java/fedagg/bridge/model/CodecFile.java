package fedagg.bridge.model;

import fedagg.bridge.wire.Digests;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;

/**
 * An autoencoder's two networks as a .tflite, which `fedagg export autoencoder.safetensors` writes: signatures `encode` and
 * `decode`, each from x to y. Of which autoencoder is checked, so a damaged autoencoder's file shows here, too.
 */
public final class CodecFile {
  private static final String FORMAT = "fedagg-tflite-codec";

  private final Tflite file;
  private final AutoencoderFile autoencoder;

  private CodecFile(Tflite file, AutoencoderFile autoencoder) {
    this.file = file;
    this.autoencoder = autoencoder;
  }

  /** The codec at {@code path} of that autoencoder; throws IOException if it cannot be read. */
  public static CodecFile read(Path path, AutoencoderFile autoencoder) throws IOException, ModelFileException {
    return read(TrainingFile.content(path), autoencoder);
  }

  /** The codec in {@code content}; throws for one that is foreign, truncated, damaged or of another autoencoder. */
  public static CodecFile read(byte[] content, AutoencoderFile autoencoder) throws ModelFileException {
    Tflite file = Tflite.read(content.clone(), FORMAT);
    try {
      String made = file.about.text("autoencoder");
      if (!made.equals(Digests.hex(autoencoder.digest()))) {
        throw new ModelFileException(
            "made of the autoencoder " + (made.length() > 12 ? made.substring(0, 12) : made) + ", expected one of "
                + Digests.hex(autoencoder.digest()).substring(0, 12) + ": another one, or that file is damaged");
      }
      for (String name : new String[] {"encode", "decode"}) {
        file.signature(name, TrainingFile.set("x"), TrainingFile.set("y"), TrainingFile.set());
      }
    } catch (ModelFileException error) {
      throw new ModelFileException(
          "codec: " + error.getMessage() + "; export the federation's autoencoder again with `fedagg export`", error);
    }
    return new CodecFile(file, autoencoder);
  }

  public AutoencoderFile autoencoder() {
    return autoencoder;
  }

  /** A copy of the whole file for {@code new Interpreter(...)}: direct, in the machine's byte order. */
  public ByteBuffer model() {
    return file.model();
  }
}

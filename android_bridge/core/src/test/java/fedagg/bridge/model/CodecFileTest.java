package fedagg.bridge.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.wire.Fixtures;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** Files of the real exporter: tests/jvm/make_models.py. */
class CodecFileTest {
  private static AutoencoderFile autoencoder() throws Exception {
    return AutoencoderFile.read(AutoencoderFileTest.file("autoencoder.safetensors"));
  }

  private static String refusal(byte[] content, AutoencoderFile autoencoder) {
    return assertThrows(ModelFileException.class, () -> CodecFile.read(content, autoencoder)).getMessage();
  }

  @Test
  void aCodecIsGivenToTheRuntimeWhole() throws Exception {
    byte[] whole = AutoencoderFileTest.file("codec.tflite");
    CodecFile found = CodecFile.read(Fixtures.root().resolve("tests/jvm/fixtures/codec.tflite"), autoencoder());
    ByteBuffer model = found.model();
    assertTrue(model.isDirect());
    assertArrayEquals(whole, Buffers.toBytes(model, model.remaining()));
    assertEquals(4, found.autoencoder().embeddingBytes());
  }

  @Test
  void oneOfAnotherAutoencoderIsRefused() throws Exception {
    byte[] whole = AutoencoderFileTest.file("codec.tflite");
    AutoencoderFile other = AutoencoderFile.read(AutoencoderFileTest.file("tables.safetensors"));
    assertTrue(refusal(whole, other).contains("another one"));
    byte[] damaged = AutoencoderFileTest.file("autoencoder.safetensors");
    damaged[damaged.length - 1] ^= 1;
    assertTrue(refusal(whole, AutoencoderFile.read(damaged)).contains("damaged"));
  }

  @Test
  void foreignTruncatedAndDamagedFilesAreToldApart() throws Exception {
    byte[] whole = AutoencoderFileTest.file("codec.tflite");
    assertTrue(refusal(AutoencoderFileTest.file("autoencoder.safetensors"), autoencoder()).contains("not a .tflite"));
    assertTrue(refusal(AutoencoderFileTest.file("cnn3.tflite"), autoencoder()).contains("fedagg-tflite-codec"));
    assertTrue(refusal(Arrays.copyOf(whole, whole.length - 1), autoencoder()).contains("truncated"));
    whole[whole.length / 2] ^= 1;
    assertTrue(refusal(whole, autoencoder()).contains("damaged"));
    assertTrue(
        assertThrows(ModelFileException.class, () -> TrainingFile.read(AutoencoderFileTest.file("codec.tflite")))
            .getMessage().contains("fedagg-tflite-codec"));
  }
}

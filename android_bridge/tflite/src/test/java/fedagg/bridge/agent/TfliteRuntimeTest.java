package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.AutoencoderFile;
import fedagg.bridge.model.CodecFile;
import fedagg.bridge.model.TrainingFile;
import fedagg.bridge.wire.Fixtures;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;

/** The adapters with TFLite's real runtime, in a process of Python: not its Java library, and not on a phone. */
@EnabledIfSystemProperty(named = "fedagg.litert", matches = ".+")
class TfliteRuntimeTest {
  private static final Path FILES = Fixtures.root().resolve("tests/jvm/fixtures");
  private static final Path OTHERS = Fixtures.root().resolve("tests/arm64/fixtures");

  private final DistillationCore core = DistillationCore.open();

  @AfterEach
  void close() {
    core.close();
  }

  private TfliteTrainer trainer(Path path) throws Exception {
    TrainingFile file = TrainingFile.read(path);
    return new TfliteTrainer(new ProcessInterpreter(file.model()), file, core, new Random(1));
  }

  @Test
  void stepsAreTorchs() throws Exception {
    try (TfliteTrainer trainer = trainer(OTHERS.resolve("mlp.tflite"))) {
      new Golden(OTHERS.resolve("mlp.npz")).replay(trainer, 10, 1e-5, 1e-4); // as tests/golden asks of Python
    }
  }

  @Test
  void batchNormAndBatchesOfManySizesAreTorchs() throws Exception {
    try (TfliteTrainer trainer = trainer(FILES.resolve("cnn3.tflite"))) {
      Golden golden = new Golden(FILES.resolve("cnn3.npz"));
      golden.replay(trainer, 6, 1e-5, 1e-4);
      golden.logits(trainer, 1e-3); // of weights that are within 1e-4
    }
  }

  @Test
  void codesAndBridgeSamplesArePythons() throws Exception {
    AutoencoderFile autoencoder = AutoencoderFile.read(FILES.resolve("autoencoder.safetensors"));
    CodecFile codec = CodecFile.read(FILES.resolve("codec.tflite"), autoencoder);
    TableNetworks table = new TableNetworks(FILES.resolve("codec.bin"), core);
    try (TfliteNetworks networks = new TfliteNetworks(new ProcessInterpreter(codec.model()), codec)) {
      LatentBridge bridge = new LatentBridge(networks, autoencoder, core);
      int floats = bridge.sampleFloats();
      ByteBuffer x = Buffers.floats(table.count * floats);
      ByteBuffer expected = Buffers.bytes(table.count * bridge.embeddingBytes());
      for (int n = 0; n < table.count; n++) {
        x.position(4 * n * floats);
        x.asFloatBuffer().put(table.samples[n]);
        expected.put(table.codes[n]);
      }
      x.clear();
      expected.clear();
      ByteBuffer codes = Buffers.bytes(expected.capacity());
      bridge.encode(x, table.count, codes);
      int apart = 0;
      for (int i = 0; i < codes.capacity(); i++) {
        int difference = Math.abs((codes.get(i) & 0xff) - (expected.get(i) & 0xff));
        assertTrue(difference <= 1, "code " + i);
        apart += difference;
      }
      assertTrue(apart <= 1, apart + " codes apart"); // torch's latents differ in the last bits: one may lie on an edge
      ByteBuffer samples = Buffers.floats(table.count * floats);
      bridge.decode(expected, table.count, samples);
      for (int n = 0; n < table.count; n++) {
        samples.position(4 * n * floats);
        assertArrayEquals(table.bridgeSample(n), Buffers.toFloats(samples, floats), 1e-5f, "sample " + n);
      }
    }
  }

  @Test
  void aBufferOfAnotherSizeIsRefusedByTheRuntime() throws Exception {
    TrainingFile file = TrainingFile.read(OTHERS.resolve("mlp.tflite"));
    TfliteModel wrong = new TfliteModel(file.sampleShape(), file.classes(), file.trained() - 1, file.seen() - 1);
    float[] weights = new float[file.seen() - 1];
    try (TfliteTrainer trainer =
        new TfliteTrainer(new ProcessInterpreter(file.model()), wrong, weights, core, new Random(1))) {
      ByteBuffer x = Buffers.floats(trainer.sampleFloats());
      String said =
          assertThrows(TrainerException.class, () -> trainer.logits(x, 1, Buffers.floats(5))).getMessage();
      assertTrue(said.contains("weights: got a buffer of " + 4 * weights.length), said);
      assertEquals(weights.length, file.weights().length - 1);
    }
  }
}

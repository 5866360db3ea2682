package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.AutoencoderFile;
import fedagg.bridge.model.CodecFile;
import fedagg.bridge.wire.Fixtures;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.tensorflow.lite.Interpreter;

/** From the files of tests/jvm/make_models.py, beside what Python makes of the same samples. */
class TfliteNetworksTest {
  private static final Path FILES = Fixtures.root().resolve("tests/jvm/fixtures");

  /** No TFLite: the codec's two signatures by a table of what the real one gave. */
  private static final class Table extends Interpreter {
    private final TableNetworks table;
    final List<Integer> batches = new ArrayList<>();
    boolean broken;
    boolean closed;

    Table(TableNetworks table) {
      this.table = table;
    }

    @Override
    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
      if (broken) {
        throw new IllegalArgumentException("no signature " + signature);
      }
      boolean encodes = signature.equals("encode");
      Object[] x = (Object[]) inputs.get("x");
      batches.add(x.length);
      int floats = encodes ? table.sampleFloats() : table.latentFloats();
      ByteBuffer in = Buffers.floats(x.length * floats);
      flatten(x, in);
      assertEquals(0, in.remaining());
      in.clear();
      ByteBuffer out = Buffers.floats(x.length * (encodes ? table.latentFloats() : table.sampleFloats()));
      if (encodes) {
        table.encode(in, x.length, out);
      } else {
        table.decode(in, x.length, out);
      }
      ((ByteBuffer) outputs.get("y")).put(out); // moves the position, as the real one does
    }

    private static void flatten(Object from, ByteBuffer into) {
      for (int i = 0; from instanceof float[] && i < ((float[]) from).length; i++) {
        into.putFloat(((float[]) from)[i]);
      }
      for (Object each : from instanceof Object[] ? (Object[]) from : new Object[0]) {
        flatten(each, into);
      }
    }

    @Override
    public void close() {
      closed = true;
    }
  }

  private final DistillationCore core = DistillationCore.open();
  private AutoencoderFile autoencoder;
  private TableNetworks table;
  private Table interpreter;
  private TfliteNetworks networks;

  @BeforeEach
  void open() throws Exception {
    autoencoder = AutoencoderFile.read(FILES.resolve("autoencoder.safetensors"));
    table = new TableNetworks(FILES.resolve("codec.bin"), core);
    interpreter = new Table(table);
    networks = new TfliteNetworks(interpreter, CodecFile.read(FILES.resolve("codec.tflite"), autoencoder));
  }

  @AfterEach
  void close() {
    networks.close();
    core.close();
    assertTrue(interpreter.closed);
  }

  @Test
  void aBridgeFromTheFilesAloneMakesPythonsCodes() {
    LatentBridge bridge = new LatentBridge(networks, autoencoder, core);
    assertArrayEquals(autoencoder.digest(), bridge.digest());
    assertEquals(96, bridge.sampleFloats());
    assertEquals(4, bridge.embeddingBytes());
    ByteBuffer x = Buffers.floats(table.count * 96);
    for (int n = 0; n < table.count; n++) {
      x.position(4 * n * 96);
      x.asFloatBuffer().put(table.samples[n]);
    }
    x.clear();
    ByteBuffer codes = Buffers.bytes(table.count * 4);
    bridge.encode(x, table.count, codes);
    for (int n = 0; n < table.count; n++) {
      assertArrayEquals(table.codes[n], Arrays.copyOfRange(Buffers.toBytes(codes, codes.capacity()), 4 * n, 4 * n + 4));
    }
    assertEquals(Arrays.asList(64, 6), interpreter.batches);
    ByteBuffer bridgeSamples = Buffers.floats(table.count * 96);
    bridge.decode(codes, table.count, bridgeSamples);
    float[] last = new float[96];
    bridgeSamples.position(4 * 96 * (table.count - 1));
    bridgeSamples.asFloatBuffer().get(last);
    assertArrayEquals(table.bridgeSample(table.count - 1), last);
  }

  @Test
  void networksOfAnotherShapeAreRefused() throws Exception {
    AutoencoderFile other = AutoencoderFile.read(FILES.resolve("tables.safetensors"));
    String said =
        assertThrows(IllegalArgumentException.class, () -> new LatentBridge(networks, other, core)).getMessage();
    assertTrue(said.contains("got 96 numbers to 4") && said.contains("64 to 8"), said);
  }

  @Test
  void aRuntimeThatRefusesIsTold() {
    interpreter.broken = true;
    ByteBuffer x = Buffers.floats(96);
    String said =
        assertThrows(IllegalStateException.class, () -> networks.encode(x, 1, Buffers.floats(4))).getMessage();
    assertTrue(said.contains("encode"), said);
  }
}

package fedagg.sample;

import fedagg.bridge.agent.AgentConfig;
import fedagg.bridge.agent.AgentListener;
import fedagg.bridge.agent.Bridge;
import fedagg.bridge.agent.DeviceAgent;
import fedagg.bridge.agent.LatentBridge;
import fedagg.bridge.agent.TfliteNetworks;
import fedagg.bridge.agent.TfliteTrainer;
import fedagg.bridge.identity.Enrolment;
import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.NodeKey;
import fedagg.bridge.identity.Token;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.AutoencoderFile;
import fedagg.bridge.model.CodecFile;
import fedagg.bridge.model.TrainingFile;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.function.Function;
import org.tensorflow.lite.Interpreter;

/**
 * A device made of five files; all of the sample that needs no Android. `device.properties` has url, token and node;
 * `autoencoder.safetensors`, `codec.tflite` and `device.tflite` come from `fedagg`; `samples.bin` stands for a sensor: int32
 * count, raw samples as binary32, int32 labels, little-endian.
 */
public final class SampleDevice implements AutoCloseable {
  /** Where the files come from: an application's assets. */
  public interface Content {
    byte[] read(String name) throws IOException;
  }

  private final List<AutoCloseable> open = new ArrayList<>();
  private DeviceAgent agent;

  private SampleDevice() {}

  /**
   * Opens the device in {@code folder}; the first time it enrols and takes in the samples.
   *
   * @param runtime {@code Interpreter::new}
   */
  public static SampleDevice open(
      Path folder, Content content, NodeKey key, Function<ByteBuffer, Interpreter> runtime, AgentListener listener)
      throws Exception {
    SampleDevice device = new SampleDevice();
    try {
      device.begin(folder, content, key, runtime, listener);
      return device;
    } catch (Exception error) {
      device.close();
      throw error;
    }
  }

  private void begin(
      Path folder, Content content, NodeKey key, Function<ByteBuffer, Interpreter> runtime, AgentListener listener)
      throws Exception {
    Properties said = new Properties();
    said.load(new ByteArrayInputStream(content.read("device.properties")));
    String url = said.getProperty("url");
    AutoencoderFile autoencoder = AutoencoderFile.read(content.read("autoencoder.safetensors"));
    CodecFile codec = CodecFile.read(content.read("codec.tflite"), autoencoder);
    TrainingFile model = TrainingFile.read(content.read("device.tflite"));

    Path home = folder.resolve("identity");
    Identity identity =
        Identity.exists(home)
            ? Identity.open(home, key)
            : Enrolment.enrol(url, Token.parse(said.getProperty("token")), said.getProperty("node"), home, key);

    DistillationCore core = kept(DistillationCore.open());
    TfliteNetworks networks = kept(new TfliteNetworks(runtime.apply(codec.model()), codec));
    Bridge bridge = new LatentBridge(networks, autoencoder, core);
    TfliteTrainer trainer = kept(new TfliteTrainer(runtime.apply(model.model()), model, core, new Random()));
    agent =
        kept(
            new DeviceAgent(
                folder.resolve("state"), new AgentConfig(url), identity, bridge, trainer, core, listener));
    if (agent.samples() == 0) {
      addSamples(content.read("samples.bin"), autoencoder);
    }
  }

  private <T extends AutoCloseable> T kept(T made) {
    open.add(made);
    return made;
  }

  private void addSamples(byte[] content, AutoencoderFile autoencoder) throws Exception {
    ByteBuffer in = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
    int count = in.getInt();
    int floats = autoencoder.sampleFloats();
    if (count < 1 || content.length != 4 + 4L * count * (floats + 1)) {
      throw new IOException(
          "samples.bin: got " + content.length + " bytes for " + count + " samples of " + floats + " numbers");
    }
    List<float[]> samples = new ArrayList<>();
    for (int n = 0; n < count; n++) {
      float[] raw = new float[floats];
      in.asFloatBuffer().get(raw);
      in.position(in.position() + 4 * floats);
      samples.add(autoencoder.scale(raw));
    }
    int[] labels = new int[count];
    in.asIntBuffer().get(labels);
    agent.add(samples, labels);
  }

  public DeviceAgent agent() {
    return agent;
  }

  /** Closes all of it, the agent first; what was closed already is closed again without harm. */
  @Override
  public void close() throws Exception {
    for (int i = open.size() - 1; i >= 0; i--) {
      open.get(i).close();
    }
    open.clear();
  }
}

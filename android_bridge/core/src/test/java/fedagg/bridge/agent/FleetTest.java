package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.identity.Enrolment;
import fedagg.bridge.identity.FileKey;
import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.IdentityException;
import fedagg.bridge.identity.Token;
import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.sample.Rounds;
import fedagg.sample.SampleDevice;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/**
 * Two devices of this library in a real fleet (tests/jvm/fleet.py): a cloud, an edge and a Python device over TLS. One of
 * the two is stopped in the middle and starts again; the other's connections break. Where Python has TFLite a third one takes
 * part: the sample application's device, from its five files alone, by that TFLite.
 */
@Order(1) // before all others: the fleet waits already, and not for ever
@EnabledIfSystemProperty(named = "fedagg.fleet", matches = ".+")
class FleetTest {
  private static final double PATIENCE = 450; // seconds

  @TempDir Path home;
  private final Properties fleet = new Properties();
  private final Path file = Paths.get(System.getProperty("fedagg.fleet", "."));

  private final class Phone implements AgentListener {
    final String name;
    final Path folder;
    final List<Long> rounds = new ArrayList<>();
    final List<String> refusals = Collections.synchronizedList(new ArrayList<>());
    final List<Double> losses = new ArrayList<>();
    final TableNetworks networks;
    final LatentBridge bridge;
    final DistillationCore core = DistillationCore.open();
    final String url;

    Phone(int number) throws Exception {
      String prefix = "phone." + number + ".";
      name = fleet.getProperty(prefix + "node");
      url = fleet.getProperty(prefix + "url");
      folder = home.resolve(name);
      networks = new TableNetworks(file.resolveSibling(fleet.getProperty(prefix + "table")), core);
      byte[] digest = new byte[32];
      String hex = fleet.getProperty("autoencoder");
      for (int i = 0; i < 32; i++) {
        digest[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
      }
      bridge = new LatentBridge(networks, CodeLayout.affine(networks.low, networks.step), core, digest);
      Token token = Token.parse(fleet.getProperty(prefix + "token"));
      FileKey key = FileKey.open(folder.resolve("identity/key.pem"));
      Identity identity = null;
      for (int tries = 0; identity == null; tries++) { // a connection may break
        try {
          identity = Enrolment.enrol(url, token, name, folder.resolve("identity"), key);
        } catch (IOException error) {
          assertTrue(tries < 20, String.valueOf(error));
          Thread.sleep(200);
        }
      }
      assertEquals(name, identity.facts().node);
      assertEquals("phones", identity.facts().federation);
    }

    DeviceAgent open() throws Exception {
      AgentConfig config =
          new AgentConfig(url).hyperparameters(Hyperparameters.builder().learningRate(0.05).build()).pollSeconds(5);
      Identity identity =
          Identity.open(folder.resolve("identity"), FileKey.open(folder.resolve("identity/key.pem")));
      KernelTrainer trainer = new KernelTrainer(new SoftmaxEngine(bridge.sampleFloats(), 10), core);
      return new DeviceAgent(folder.resolve("state"), config, identity, bridge, trainer, core, this);
    }

    void add(DeviceAgent agent, int from, int to) throws Exception {
      List<float[]> chosen = Arrays.asList(networks.samples).subList(from, to);
      agent.add(chosen, Arrays.copyOfRange(networks.labels, from, to));
    }

    @Override
    public void round(long version, int rows, StepReport means) {
      rounds.add(version);
      losses.add(means.loss);
    }

    @Override
    public void refused(String why) {
      refusals.add(why);
    }
  }

  /** The sample's device: opened as its worker does, for one run after another. */
  private final class Sample extends Thread {
    private final Path folder = home.resolve("sample");
    private final List<Long> rounds = Collections.synchronizedList(new ArrayList<>());
    private final List<Double> losses = Collections.synchronizedList(new ArrayList<>());
    private final AtomicReference<Throwable> failed = new AtomicReference<>();
    private int samples;

    @Override
    public void run() {
      try {
        Files.createDirectories(folder);
        for (boolean over = false; !over; ) { // the first run ends after a round
          Rounds shown = new Rounds(folder);
          AtomicReference<DeviceAgent> open = new AtomicReference<>();
          AgentListener listener =
              new AgentListener() {
                @Override
                public void round(long version, int rows, StepReport means) {
                  shown.round(version, rows, means);
                  losses.add(means.loss);
                  if (rounds.isEmpty()) {
                    open.get().stop();
                  }
                  rounds.add(version);
                }

                @Override
                public void refused(String why) {
                  shown.refused(why);
                  failed.compareAndSet(null, new IllegalStateException(why));
                }
              };
          Path files = file.resolveSibling(fleet.getProperty("sample"));
          SampleDevice.Content content = name -> Files.readAllBytes(files.resolve(name));
          try (SampleDevice device =
              SampleDevice.open(
                  folder, content, FileKey.open(folder.resolve("key.pem")), ProcessInterpreter::new, listener)) {
            open.set(device.agent());
            over = device.agent().run(PATIENCE);
            samples = device.agent().samples();
          }
        }
      } catch (Throwable error) {
        failed.set(error);
      }
    }

    void tookPartIn(int count) throws InterruptedException {
      join();
      assertNull(failed.get(), () -> String.valueOf(failed.get()));
      List<Long> all = new ArrayList<>();
      for (long version = 0; version < count; version++) {
        all.add(version);
      }
      assertEquals(all, rounds);
      assertEquals(60, samples); // taken in once, not by each run
      assertTrue(losses.get(count - 1) < losses.get(0), losses.toString());
      String text = new Rounds(folder).text();
      assertTrue(text.startsWith("round 0: ") && text.contains("\nround " + (count - 1) + ": "), text);
    }
  }

  @Test
  void twoPhonesTakePartInEveryRoundOfARealFleet() throws Exception {
    try (BufferedReader in = Files.newBufferedReader(file)) {
      fleet.load(in);
    }
    int rounds = Integer.parseInt(fleet.getProperty("rounds"));
    Phone steady = new Phone(0);
    Phone shaky = new Phone(1);
    codesAreThoseOfPython(steady);
    strangersAreRefused(steady);

    AtomicReference<Throwable> wrong = new AtomicReference<>();
    Thread other =
        new Thread(
            () -> {
              try (DeviceAgent agent = shaky.open()) {
                shaky.add(agent, 0, shaky.networks.count);
                assertTrue(agent.run(PATIENCE), "the training did not end; " + shaky.refusals);
              } catch (Throwable error) {
                wrong.set(error);
              }
            });
    other.start();
    Sample sample = fleet.containsKey("sample") ? new Sample() : null;
    if (sample != null) {
      sample.start();
    }
    try (DeviceAgent agent = steady.open()) { // stopped after its first round, and opened again
      steady.add(agent, 0, steady.networks.count / 2);
      Thread stopper = new Thread(() -> stopAfterARound(agent));
      stopper.start();
      agent.run(PATIENCE);
      stopper.join();
    }
    assertEquals(Collections.singletonList(0L), steady.rounds);
    try (DeviceAgent agent = steady.open()) {
      assertEquals(0, agent.round());
      steady.add(agent, steady.networks.count / 2, steady.networks.count); // more data, in the middle
      assertTrue(agent.run(PATIENCE), "the training did not end; " + steady.refusals);
      int right = 0;
      for (int i = 0; i < steady.networks.count; i++) {
        right += agent.predict(steady.networks.samples[i]) == steady.networks.labels[i] ? 1 : 0;
      }
      assertTrue(right > steady.networks.count / 2, right + " of " + steady.networks.count + " own samples right");
    }
    other.join();
    assertNull(wrong.get(), () -> String.valueOf(wrong.get()));
    if (sample != null) {
      sample.tookPartIn(rounds);
    }
    for (Phone phone : new Phone[] {steady, shaky}) {
      List<Long> all = new ArrayList<>();
      for (long version = 0; version < rounds; version++) {
        all.add(version);
      }
      assertEquals(all, phone.rounds);
      assertEquals(Collections.emptyList(), phone.refusals);
      assertTrue(phone.losses.get(rounds - 1) < phone.losses.get(0), phone.losses.toString());
      phone.core.close();
    }
  }

  private static void stopAfterARound(DeviceAgent agent) {
    while (agent.round() < 0) {
      try {
        Thread.sleep(20);
      } catch (InterruptedException error) {
        return;
      }
    }
    agent.stop();
  }

  private static void codesAreThoseOfPython(Phone phone) {
    int floats = phone.bridge.sampleFloats();
    ByteBuffer codes = Buffers.bytes(phone.bridge.embeddingBytes());
    ByteBuffer x = Buffers.floats(floats);
    for (int i = 0; i < phone.networks.count; i++) {
      x.asFloatBuffer().put(phone.networks.samples[i]);
      phone.bridge.encode(x, 1, codes);
      assertArrayEquals(phone.networks.codes[i], Buffers.toBytes(codes, codes.capacity()), "sample " + i);
    }
  }

  /** A token that was spent with another key, one of another federation, and a server that another name leads to. */
  private void strangersAreRefused(Phone phone) throws Exception {
    Path elsewhere = home.resolve("stranger");
    FileKey key = FileKey.open(elsewhere.resolve("key.pem"));
    String text = fleet.getProperty("phone.0.token");
    IdentityException spent =
        assertThrows(
            IdentityException.class,
            () -> Enrolment.enrol(phone.url, Token.parse(text), phone.name, elsewhere, key));
    assertTrue(spent.getMessage().contains("status 4"), spent.getMessage());
    String other = text.substring(0, text.length() - 43) + "A" + text.substring(text.length() - 42);
    assertThrows(
        IdentityException.class, () -> Enrolment.enrol(phone.url, Token.parse(other), phone.name, elsewhere, key));
    String wrongName = phone.url.replace("127.0.0.1", "localhost"); // the certificate names the address alone
    IOException name =
        assertThrows(
            IOException.class, () -> Enrolment.enrol(wrongName, Token.parse(text), phone.name, elsewhere, key));
    assertTrue(String.valueOf(name.getMessage()).contains("localhost"), name.getMessage());
    assertTrue(!Identity.exists(elsewhere));
  }
}

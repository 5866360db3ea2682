package fedagg.bridge.agent;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** How a {@link DeviceAgent} works. */
public final class AgentConfig {
  private static final double LONGEST = 86_400;

  final String url;
  final List<String> fallbacks = new ArrayList<>();
  Hyperparameters hyperparameters = Hyperparameters.builder().build();
  String labels = "all";
  String knowledge = "int8";
  long outboxBytes = 64L << 20;
  double pollSeconds = 25;
  double lostAfter = 600;
  long seed;

  /** {@code url}: the parent's address, https://host:port. */
  public AgentConfig(String url) {
    this.url = address(url);
  }

  /** Other nodes of the parent's tier, tried in order when it was silent for {@link #lostAfter} seconds. */
  public AgentConfig fallback(String other) {
    fallbacks.add(address(other));
    return this;
  }

  /** How it trains; the defaults are those of docs/config.md. */
  public AgentConfig hyperparameters(Hyperparameters value) {
    hyperparameters = value;
    return this;
  }

  /** How far up this device's labels may go: "all" the way or to the "first-edge". */
  public AgentConfig labels(String value) {
    labels = oneOf("labels", value, "all", "first-edge");
    return this;
  }

  /** How its logits travel: "f32", "f16" or "int8". */
  public AgentConfig knowledge(String value) {
    knowledge = oneOf("knowledge", value, "f32", "f16", "int8");
    return this;
  }

  /** Bytes of embeddings that may wait for the parent; beyond it new samples are refused. */
  public AgentConfig outboxBytes(long value) {
    if (value <= 0) {
      throw new IllegalArgumentException("outboxBytes: got " + value + ", expected more than 0");
    }
    outboxBytes = value;
    return this;
  }

  /** Seconds that a poll for news is held. */
  public AgentConfig pollSeconds(double seconds) {
    pollSeconds = positive("pollSeconds", seconds);
    return this;
  }

  /** Seconds of silence after which another parent is tried. */
  public AgentConfig lostAfter(double seconds) {
    lostAfter = positive("lostAfter", seconds);
    return this;
  }

  /** Every shuffle follows from it and the round. */
  public AgentConfig seed(long value) {
    seed = value;
    return this;
  }

  private static String address(String url) {
    if (url == null || !url.startsWith("https://")) {
      throw new IllegalArgumentException("url: got " + url + ", expected https://host:port");
    }
    return url;
  }

  private static String oneOf(String name, String value, String... known) {
    if (!Arrays.asList(known).contains(value)) {
      throw new IllegalArgumentException(name + ": got " + value + ", expected one of " + String.join(", ", known));
    }
    return value;
  }

  private static double positive(String name, double seconds) {
    if (!(seconds > 0 && seconds <= LONGEST)) { // NaN fails, too
      throw new IllegalArgumentException(
          name + ": got " + seconds + ", expected seconds above 0, at most " + (long) LONGEST);
    }
    return seconds;
  }
}

package fedagg.bridge.agent;

import java.util.ArrayList;
import java.util.List;

/** How a {@link DeviceAgent} works. */
public final class AgentConfig {
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
    this.url = url;
  }

  /** Other nodes of the parent's tier, tried in order when it was silent for {@link #lostAfter} seconds. */
  public AgentConfig fallback(String other) {
    fallbacks.add(other);
    return this;
  }

  public AgentConfig hyperparameters(Hyperparameters value) {
    hyperparameters = value;
    return this;
  }

  /** How far up this device's labels may go: "all" the way or to the "first-edge". */
  public AgentConfig labels(String value) {
    labels = value;
    return this;
  }

  /** How its logits travel: "f32", "f16" or "int8". */
  public AgentConfig knowledge(String value) {
    knowledge = value;
    return this;
  }

  /** Bytes of embeddings that may wait for the parent; beyond it new samples are refused. */
  public AgentConfig outboxBytes(long value) {
    outboxBytes = value;
    return this;
  }

  /** Seconds that a poll for news is held. */
  public AgentConfig pollSeconds(double seconds) {
    pollSeconds = seconds;
    return this;
  }

  public AgentConfig lostAfter(double seconds) {
    lostAfter = seconds;
    return this;
  }

  /** Every shuffle follows from it and the round. */
  public AgentConfig seed(long value) {
    seed = value;
    return this;
  }
}

package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class AgentConfigTest {
  private static void refused(String name, Executable made) {
    String told = assertThrows(IllegalArgumentException.class, made).getMessage();
    assertTrue(told.startsWith(name + ": got ") && told.contains("expected"), told);
  }

  @Test
  void whatCannotBeUsedIsRefusedAtOnce() {
    AgentConfig config = new AgentConfig("https://hall.example:9443");
    refused("url", () -> new AgentConfig("hall.example:9443"));
    refused("url", () -> new AgentConfig(null));
    refused("url", () -> config.fallback("http://hall.example"));
    refused("labels", () -> config.labels("none"));
    refused("knowledge", () -> config.knowledge("int4"));
    refused("outboxBytes", () -> config.outboxBytes(0));
    refused("pollSeconds", () -> config.pollSeconds(Double.NaN));
    refused("lostAfter", () -> config.lostAfter(-1));
    assertEquals("int8", config.knowledge);
    assertEquals("f16", config.knowledge("f16").knowledge);
  }
}

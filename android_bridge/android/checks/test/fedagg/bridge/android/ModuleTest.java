package fedagg.bridge.android;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;

/** What of the Gradle module can be looked at without Gradle and an Android SDK. */
class ModuleTest {
  private static final Path MODULE =
      Paths.get(System.getProperty("fedagg.root"), "android_bridge", "android", "bridge");

  private static String text(String name) throws IOException {
    return new String(Files.readAllBytes(MODULE.resolve(name)), StandardCharsets.UTF_8);
  }

  @Test
  void theManifestIsXmlAndAsksForTheNetworkAlone() throws Exception {
    DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
    factory.setNamespaceAware(true);
    org.w3c.dom.Document found =
        factory.newDocumentBuilder().parse(MODULE.resolve("src/main/AndroidManifest.xml").toFile());
    assertEquals("manifest", found.getDocumentElement().getTagName());
    assertEquals(2, found.getElementsByTagName("uses-permission").getLength());
  }

  @Test
  void theRulesForR8NameClassesThatExist() throws Exception {
    Matcher named = Pattern.compile("fedagg\\.bridge\\.[a-z]+\\.[A-Z]\\w+").matcher(text("consumer-rules.pro"));
    int count = 0;
    while (named.find()) {
      Class.forName(named.group(), false, ModuleTest.class.getClassLoader());
      count++;
    }
    assertEquals(3, count);
  }

  @Test
  void theScriptNamesPathsAndOptionsThatExist() throws Exception {
    String script = text("build.gradle");
    Matcher named = Pattern.compile("'((?:\\.\\./)+[^']+)'").matcher(script);
    int count = 0;
    while (named.find()) {
      assertTrue(Files.exists(MODULE.resolve(named.group(1))), named.group(1));
      count++;
    }
    assertEquals(4, count);
    String rules = text("consumer-rules.pro");
    for (String runtime : new String[] {"org.tensorflow.lite", "org.pytorch.executorch"}) { // compileOnly
      assertTrue(rules.contains("-dontwarn " + runtime + ".**"), runtime);
    }
    String cmake = new String(
        Files.readAllBytes(MODULE.resolve("../../../CMakeLists.txt")), StandardCharsets.UTF_8);
    Matcher option = Pattern.compile("-D(FEDAGG_\\w+)=").matcher(script);
    while (option.find()) {
      assertTrue(cmake.contains("option(" + option.group(1) + " "), option.group(1));
    }
    assertTrue(script.contains("'arm64-v8a', 'x86_64'"));
  }

  @Test
  void theLibraryIsLaidOutForPagesOf16Kilobytes() throws Exception {
    ByteBuffer elf =
        ByteBuffer.wrap(Files.readAllBytes(Paths.get(System.getProperty("fedagg.jni")))).order(ByteOrder.LITTLE_ENDIAN);
    assertEquals(0x464c457f, elf.getInt(0));
    long headers = elf.getLong(0x20);
    int size = elf.getShort(0x36);
    int loaded = 0;
    for (int i = 0; i < elf.getShort(0x38); i++) {
      int at = (int) headers + i * size;
      if (elf.getInt(at) == 1) { // PT_LOAD
        assertEquals(0, elf.getLong(at + 0x30) % 16_384, "alignment of segment " + i);
        loaded++;
      }
    }
    assertFalse(loaded == 0);
  }
}

package fedagg.bridge.identity;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.wire.Fixtures;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.Signature;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Tokens, proofs and keys against Python's bytes; chains against tests/jvm/chains. */
class IdentityTest {
  private static final String PART = new String(new char[43]).replace('\0', 'A');
  private static final String TOKEN = "fedagg1.AAECAwQFBgc." + PART + "." + PART.replace('A', 'B').substring(1) + "A";

  @TempDir Path folder;

  private static byte[] array(String name) throws Exception {
    return Files.readAllBytes(Fixtures.root().resolve("tests/wire/arrays/" + name + ".bin"));
  }

  private static List<X509Certificate> chain(String name) throws Exception {
    return Pem.certificates(Files.readAllBytes(Fixtures.root().resolve("tests/jvm/chains/" + name + ".pem")));
  }

  private static Trust trust() throws Exception {
    return new Trust(chain("root").get(0));
  }

  @Test
  void tokensAndProofsAreThoseOfPython() throws Exception {
    Token token = Token.parse(" " + TOKEN + "\n");
    assertEquals("AAECAwQFBgc", token.id);
    assertArrayEquals(array("token-digest"), token.digest());
    byte[] key = "key".getBytes(StandardCharsets.US_ASCII);
    assertArrayEquals(array("proof"), Proof.text("enrol", "f", "d1", "device", 1.5e9 + 0.75, token.digest(), key));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "fedagg1", "fedagg2.AAECAwQFBgc.x.y"})
  void whatIsNoTokenIsRefusedAndNotRepeated(String text) {
    assertFalse(
        assertThrows(IdentityException.class, () -> Token.parse(text)).getMessage().contains("AAECAwQFBgc"));
  }

  @Test
  void aTokenHasOneSpellingAndSaysOnlyItsId() throws Exception {
    String other = TOKEN.substring(0, TOKEN.length() - 1) + "B"; // the same bytes, spelt otherwise
    assertThrows(IdentityException.class, () -> Token.parse(other));
    assertEquals("Token(AAECAwQFBgc)", Token.parse(TOKEN).toString());
  }

  @Test
  void aKeyIsMadeOnceForItsOwnerAloneAndProvesItself() throws Exception {
    Path path = folder.resolve("identity/key.pem");
    FileKey key = FileKey.open(path);
    assertEquals(91, key.publicDer().length);
    assertArrayEquals(key.publicDer(), FileKey.open(path).publicDer());
    assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(path)));
    Signature check = Signature.getInstance("SHA256withECDSA");
    check.initVerify(key.publicKey());
    check.update(new byte[] {1, 2});
    assertTrue(check.verify(key.sign(new byte[] {1, 2})));
    Files.write(path, new byte[] {1});
    assertThrows(IdentityException.class, () -> FileKey.open(path));
  }

  @ParameterizedTest
  @CsvSource({
    "good-device,device,d1", "good-edge,edge,edge-a", "good-edge-of-cloud,edge,edge-a", "good-cloud,cloud,cloud"
  })
  void goodChainsSayWhoTheyAre(String name, String role, String node) throws Exception {
    Facts facts = trust().check(chain(name), true);
    assertEquals(role, facts.role);
    assertEquals(node, facts.node);
    assertEquals("f", facts.federation);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "bad-foreign", "bad-foreign-root-cut-off", "bad-issuer-missing", "bad-issuer-alone", "bad-edge-by-edge",
        "bad-role", "bad-federation", "bad-uri", "bad-name", "bad-order", "bad-two-names", "bad-signing", "root"
      })
  void chainsThatAreWrongInOneWayAreRefused(String name) throws Exception {
    Trust trust = trust();
    List<X509Certificate> chain = chain(name);
    assertThrows(IdentityException.class, () -> trust.check(chain, true));
  }

  @Test
  void everyBadChainIsTested() throws Exception {
    ValueSource tested =
        IdentityTest.class.getDeclaredMethod("chainsThatAreWrongInOneWayAreRefused", String.class)
            .getAnnotation(ValueSource.class);
    try (java.util.stream.Stream<Path> files = Files.list(Fixtures.root().resolve("tests/jvm/chains"))) {
      assertEquals(
          tested.strings().length - 1, files.filter(f -> f.getFileName().toString().startsWith("bad-")).count());
    }
  }

  @Test
  void serversAreParentsInDateOrOfALaterDay() throws Exception {
    Trust trust = trust();
    trust.checkServerTrusted(chain("good-edge-later").toArray(new X509Certificate[0]), "ECDHE_ECDSA");
    for (String name : new String[] {"good-edge" /* expired in 2020 */, "good-device", "bad-foreign"}) {
      X509Certificate[] chain = chain(name).toArray(new X509Certificate[0]);
      assertThrows(CertificateException.class, () -> trust.checkServerTrusted(chain, "ECDHE_ECDSA"), name);
    }
    X509Certificate[] device = chain("good-device-later").toArray(new X509Certificate[0]);
    CertificateException role =
        assertThrows(CertificateException.class, () -> trust.checkServerTrusted(device, "ECDHE_ECDSA"));
    assertTrue(role.getMessage().contains("device d1, expected a parent's"), role.getMessage());
    assertThrows(CertificateException.class, () -> trust.checkClientTrusted(new X509Certificate[0], "EC"));
  }

  @Test
  void anIdentityNeedsItsOwnKeyAndName() throws Exception {
    byte[] pem = Files.readAllBytes(Fixtures.root().resolve("tests/jvm/chains/good-device.pem"));
    FileKey key = FileKey.open(folder.resolve("key.pem"));
    Trust trust = trust();
    IdentityException wrong =
        assertThrows(IdentityException.class, () -> Identity.install(folder, key, trust, pem, "d1"));
    assertTrue(wrong.getMessage().contains("another key"), wrong.getMessage());
    assertFalse(Identity.exists(folder));
    assertThrows(IdentityException.class, () -> Identity.open(folder, key));
  }

  @Test
  void renewalIsDueWhenPythonSaysSo() throws Exception {
    String due =
        new String(
            Files.readAllBytes(Fixtures.root().resolve("tests/jvm/chains/good-device.due.txt")),
            StandardCharsets.US_ASCII);
    assertEquals(Double.parseDouble(due.trim()), Identity.renewalDue(chain("good-device").get(0)), 0.01);
  }

  @Test
  void namesThatAreNotWholeAreRefused() throws Exception {
    byte[] name = chain("good-device").get(0).getSubjectX500Principal().getEncoded();
    assertEquals("[O=f, OU=device, CN=d1]", DistinguishedName.read(name).toString());
    for (int length = 0; length < name.length; length++) {
      byte[] cut = java.util.Arrays.copyOf(name, length);
      assertThrows(IdentityException.class, () -> DistinguishedName.read(cut));
    }
    for (int i = 0; i < 8 * name.length; i++) {
      byte[] turned = name.clone();
      turned[i / 8] ^= (byte) (1 << i % 8);
      try {
        DistinguishedName.read(turned);
      } catch (IdentityException fine) {
        // anything but this, or another name, fails the test
      }
    }
  }
}

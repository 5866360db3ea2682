package fedagg.bridge.android;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import android.security.keystore.KeyGenParameterSpec;
import fedagg.bridge.identity.IdentityException;
import java.nio.charset.StandardCharsets;
import java.security.KeyPairGenerator;
import java.security.Security;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Against a key store of the same name in software: what is asked of the phone's is seen, the phone's own is not. */
class KeystoreKeyTest {
  private final SoftwareKeystore provider = new SoftwareKeystore();

  @BeforeEach
  void install() {
    SoftwareKeystore.forgetAll();
    Security.addProvider(provider);
  }

  @AfterEach
  void remove() {
    Security.removeProvider(provider.getName());
    SoftwareKeystore.forgetAll(); // other tests have one of their own
  }

  @Test
  void aKeyIsMadeOnceAndSignsWhatItsPublicHalfVerifies() throws Exception {
    KeystoreKey made = KeystoreKey.open("phone");
    KeystoreKey again = KeystoreKey.open("phone");
    assertArrayEquals(made.publicDer(), again.publicDer());
    assertEquals(91, made.publicDer().length);
    assertEquals(1, SoftwareKeystore.asked.size());
    byte[] text = "a proof".getBytes(StandardCharsets.UTF_8);
    Signature check = Signature.getInstance("SHA256withECDSA");
    check.initVerify(made.publicKey());
    check.update(text);
    assertTrue(check.verify(again.sign(text)));
  }

  @Test
  void itIsAKeyForSigningOnP256ThatTlsMayUseToo() throws Exception {
    KeystoreKey.open("phone");
    KeyGenParameterSpec spec = SoftwareKeystore.asked.get(0);
    assertEquals("phone", spec.getKeystoreAlias());
    assertEquals(4, spec.getPurposes());
    assertEquals(
        "secp256r1", ((java.security.spec.ECGenParameterSpec) spec.getAlgorithmParameterSpec()).getName());
    assertArrayEquals(new String[] {"SHA-256", "NONE"}, spec.getDigests());
  }

  @Test
  void aKeyOnAnotherCurveIsNotTaken() throws Exception {
    KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", "SunEC");
    generator.initialize(new ECGenParameterSpec("secp384r1"));
    SoftwareKeystore.put("phone", generator.generateKeyPair());
    assertTrue(assertThrows(IdentityException.class, () -> KeystoreKey.open("phone")).getMessage().contains("P-256"));
  }

  @Test
  void hardwareThatFailsIsTold() {
    SoftwareKeystore.breakDown();
    assertTrue(
        assertThrows(IdentityException.class, () -> KeystoreKey.open("phone")).getMessage().contains("does not answer"));
  }

  @Test
  void withoutTheStoreOrWithAnotherKindOfKeyItSaysSo() throws Exception {
    SoftwareKeystore.plant("phone");
    assertTrue(
        assertThrows(IdentityException.class, () -> KeystoreKey.open("phone")).getMessage().contains("enrol again"));
    Security.removeProvider(provider.getName());
    assertFalse(
        assertThrows(IdentityException.class, () -> KeystoreKey.open("phone")).getMessage().isEmpty());
  }
}

//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/secrettest"
)

// credentialProcess returns the environment of a profile with the credentials that a shell script prints.
func credentialProcess(t *testing.T, script string) []string {
	t.Helper()
	path := fileWith(t, script)
	config := fileWith(t, "[default]\ncredential_process = sh "+filepath.ToSlash(path)+"\n")
	return []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_CONFIG_FILE=" + config}
}

// What a credential_process prints besides JSON may be the credentials, in any form.
func TestOutputOfCredentialProcessIsNotShown(t *testing.T) {
	s, dir := startTestServers(t), t.TempDir()
	environ := append(s.environ(dir), credentialProcess(t, "echo "+secrettest.AccessKey+" "+secrettest.SecretKey)...)
	out, err := command(t, environ, "copy", "s3://bikes/x", dir).CombinedOutput()
	if found := secrettest.Find(string(out)); len(found) > 0 {
		t.Errorf("the output has %q:\n%s", found, out)
	}
	if want := "credential_process must print credentials in JSON, and nothing else: invalid character 'A'"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s, want %s", err, out, want)
	}
}

// A credential_process that reads standard input, as ssh does, used to take the bytes of the copy: the object was empty.
func TestCredentialProcessThatReads(t *testing.T) {
	s := startTestServers(t)
	environ := append(s.environ(t.TempDir()), credentialProcess(t, fmt.Sprintf("cat >/dev/null\necho '{\"Version\": 1, \"AccessKeyId\": %q, \"SecretAccessKey\": %q}'\n",
		s.store.AccessKey, s.store.SecretKey))...)
	const data = "the bytes of the copy"
	c := command(t, environ, "copy", "-", "s3://bikes/x")
	c.Stdin = strings.NewReader(data)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, _ := s.store.Object("bikes", "x"); string(got) != data {
		t.Errorf("the object has %q, want %q", got, data)
	}
}

// The endpoint of a profile may be in a section of its own. If that is absent, the requests would go to AWS.
func TestServicesOfAProfile(t *testing.T) {
	s := startTestServers(t)
	for services, want := range map[string]string{
		"": "profile default has services = local, and there is no section [services local]",
		"[services other]\ns3 =\n  endpoint_url = URL\n": "there is no section [services local]",
		"[services local]\ns3 =\n  endpoint_url = URL\n": "",
	} {
		config := fileWith(t, "[default]\nservices = local\n"+strings.ReplaceAll(services, "URL", s.store.URL))
		out, err := command(t, append(s.environ(t.TempDir()), "AWS_ENDPOINT_URL=", "AWS_CONFIG_FILE="+config), "copy", config, "s3://bikes/x").CombinedOutput()
		if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v\n%s, want %s", services, err, out, want)
		}
	}
}

//go:build unix

package s3_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
)

// LoadKey makes a key that only this user can read, reads it again, and refuses a file that others can read or that has no
// key; no error has the secret.
func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	made, err := s3.LoadKey("--client-key-file", path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if again, err := s3.LoadKey("--client-key-file", path); again != made || err != nil {
		t.Error("another key", err)
	}
	const id, secret = "aws_access_key_id = ME\n", "hunter2hunter2hunter2"
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{"aws_access_key_id=MYKEY\naws_secret_access_key=" + secret, 0o600, ""},
		{"[default]\r\naws_access_key_id = MYKEY\r\naws_secret_access_key = " + secret + "\r\n", 0o400, ""},
		{"aws_access_key_id=MYKEY\naws_secret_access_key=" + secret, 0o640, "chmod 600"},
		{"aws_access_key_id=MYKEY\naws_secret_access_key=" + secret, 0o604, "chmod 600"},
		{"aws_access_key_id=MYKEY\naws_secret_access_key=hunter2", 0o600, "of 16 characters or more"},
		{id + "aws_secret_access_key=" + secret, 0o600, "aws_access_key_id"},
		{"aws_access_key_id=MY/KEY\naws_secret_access_key=" + secret, 0o600, "aws_access_key_id"},
		{"aws_secret_access_key=" + secret, 0o600, "aws_access_key_id"},
		{"", 0o600, "aws_access_key_id"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		key, err := s3.LoadKey("--client-key-file", path)
		if err == nil && (tt.want != "" || key.ID != "MYKEY" || key.Secret != secret) ||
			err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "--client-key-file") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q with mode %o: %v, want %q", tt.text, tt.mode, err, tt.want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s3.LoadKey("--client-key-file", filepath.Join(t.TempDir(), "absent", "key")); err == nil {
		t.Error("no error in a directory that does not exist")
	}
}

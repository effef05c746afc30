package s3

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A Key is what clients sign with.
type Key struct{ ID, Secret string }

// NewKey returns a random Key.
func NewKey() Key {
	return Key{ID: "PERDURE" + rand.Text()[:13], Secret: rand.Text() + rand.Text()[:14]}
}

// LoadKey reads a Key from a file in the format of ~/.aws/credentials. If the file does not exist, LoadKey creates it with a
// new Key. A file that others can read is refused. Errors name field, and never the secret.
func LoadKey(field, path string) (Key, error) {
	k, err := readKey(field, path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = createKey(path)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return Key{}, fmt.Errorf("%s: %w", field, err)
	}
	return k, err
}

func readKey(field, path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return Key{}, setting.Bad(field, path, "a file that only this user can read (chmod 600)")
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return Key{}, err
	}
	var k Key
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			k.ID = strings.TrimSpace(value)
		case "aws_secret_access_key":
			k.Secret = strings.TrimSpace(value)
		}
	}
	if len(k.ID) < 3 || strings.ContainsAny(k.ID, "/,") || len(k.Secret) < 16 {
		return Key{}, setting.Bad(field, path, "a file with aws_access_key_id and, of 16 characters or more, aws_secret_access_key")
	}
	return k, nil
}

func createKey(path string) (Key, error) {
	k := NewKey()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, err
	}
	_, err = fmt.Fprintf(f, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.ID, k.Secret)
	return k, errors.Join(err, f.Close())
}

package pipes

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The environment variables that hold the parameters of a session: where the
// context is, and where messages go.
const (
	contextVariable  = "DAGSTER_PIPES_CONTEXT"
	messagesVariable = "DAGSTER_PIPES_MESSAGES"
)

const maxContext = 64 << 20 // bytes of a context, or of an unpacked variable

// A Context describes the step that Dagster runs in this process. Fields that a
// later Dagster adds are ignored.
type Context struct {
	AssetKeys    []string               `json:"asset_keys"` // keys as reports name them; nil if the step makes no asset
	CodeVersions map[string]*string     `json:"code_version_by_asset_key"`
	Provenances  map[string]*Provenance `json:"provenance_by_asset_key"`
	PartitionKey *string                `json:"partition_key"`         // nil if the step has no partition, or several
	Partitions   *PartitionRange        `json:"partition_key_range"`   // nil if the step has no partition; one partition is a range
	Window       *PartitionWindow       `json:"partition_time_window"` // nil if the asset is not partitioned by time
	RunID        string                 `json:"run_id"`
	JobName      *string                `json:"job_name"`     // nil if the step was started without a job
	RetryNumber  int                    `json:"retry_number"` // retries of the step before this one, from 0; a retry of the run starts at 0 again
	// Extras are the values that the asset's code passes to the process, by name;
	// see [Context.Extra].
	Extras map[string]json.RawMessage `json:"extras"`
}

// A Provenance describes the inputs of an asset's last materialization.
type Provenance struct {
	CodeVersion       string            `json:"code_version"`
	InputDataVersions map[string]string `json:"input_data_versions"`
	IsUserProvided    bool              `json:"is_user_provided"`
}

// A PartitionRange holds the first and the last partition of a step, both included.
type PartitionRange struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// A PartitionWindow is the time that the partitions of a step cover, in ISO 8601.
// End is not included.
type PartitionWindow struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// Times returns Start and End as instants. A time without a zone is in UTC.
func (w *PartitionWindow) Times() (start, end time.Time, err error) {
	if start, err = instant(w.Start); err == nil {
		end, err = instant(w.End)
	}
	return start, end, err
}

func instant(text string) (time.Time, error) {
	if t, err := time.Parse("2006-01-02T15:04:05", text); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, text)
}

// AssetKey returns the key of the asset that the step makes, or an error if the
// step makes no asset or several.
func (c *Context) AssetKey() (string, error) {
	if len(c.AssetKeys) != 1 {
		return "", fmt.Errorf("pipes: the step makes %d assets, want exactly one", len(c.AssetKeys))
	}
	return c.AssetKeys[0], nil
}

// CodeVersion returns the code version of the asset that the step makes, "" if the
// asset has no version. A step of no asset or several is an error.
func (c *Context) CodeVersion() (string, error) {
	key, err := c.AssetKey()
	if version := c.CodeVersions[key]; err == nil && version != nil {
		return *version, nil
	}
	return "", err
}

// Provenance returns the provenance of the asset that the step makes, nil if the
// asset was never made. A step of no asset or several is an error.
func (c *Context) Provenance() (*Provenance, error) {
	key, err := c.AssetKey()
	return c.Provenances[key], err
}

// Partition returns the key of the step's partition, or an error if the step has
// no partition or several.
func (c *Context) Partition() (string, error) {
	switch {
	case c.PartitionKey != nil:
		return *c.PartitionKey, nil
	case c.Partitions != nil:
		return "", fmt.Errorf("pipes: the step has the partitions %q to %q, want exactly one",
			c.Partitions.Start, c.Partitions.End)
	default:
		return "", errors.New("pipes: the step has no partition")
	}
}

// Extra decodes the extra of that name into the value that into points to, as
// [json.Unmarshal] does. A name that Extras does not have is an error.
func (c *Context) Extra(name string, into any) error {
	text, ok := c.Extras[name]
	if !ok {
		return fmt.Errorf("pipes: the step has no extra %q", name)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("pipes: extra %q: %w", name, err)
	}
	return nil
}

// resolve returns the asset key of a report: key, or the step's only asset if key
// is "".
func (c *Context) resolve(key string) (string, error) {
	switch {
	case key == "" && len(c.AssetKeys) == 0:
		return "", errors.New("pipes: the step makes no asset: an asset key is needed")
	case key == "" && len(c.AssetKeys) > 1:
		return "", fmt.Errorf("pipes: the step makes %d assets: an asset key is needed, one of %q", len(c.AssetKeys), c.AssetKeys)
	case key == "":
		return c.AssetKeys[0], nil
	case len(c.AssetKeys) > 0 && !slices.Contains(c.AssetKeys, key):
		return "", fmt.Errorf("pipes: invalid value %q for asset key: must be one of %q", key, c.AssetKeys)
	default:
		return key, nil
	}
}

// loadContext reads and decodes the context that p names.
func loadContext(ctx context.Context, p params, blobs BlobReader) (c Context, err error) {
	text, err := readContext(ctx, p, blobs)
	if err != nil {
		return c, fmt.Errorf("pipes: read the context: %w", err)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return c, errors.New("pipes: the context is not a JSON object")
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return Context{}, fmt.Errorf("pipes: decode the context: %w", err)
	}
	return c, nil
}

func readContext(ctx context.Context, p params, blobs BlobReader) ([]byte, error) {
	if blobs != nil {
		bucket, key, err := p.blob("key")
		if err != nil {
			return nil, err
		}
		return blobs.ReadBlob(ctx, bucket, key)
	}
	if p.has("path") { // path wins over data, as in Dagster's own library
		path, err := p.text("path")
		if err != nil {
			return nil, err
		}
		f, err := openRegular(path, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		return io.ReadAll(io.LimitReader(f, maxContext))
	}
	if p.has("data") {
		return p.values["data"], nil
	}
	return nil, fmt.Errorf(`%s has neither "path" nor "data"`, p.name)
}

// openRegular opens a regular file. It never blocks, and refuses a FIFO or a device.
func openRegular(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("is not a regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// params are the decoded parameters of one variable.
type params struct {
	name   string
	values map[string]json.RawMessage
}

// unpack decodes the value of a variable.
func unpack(name, value string) (params, error) {
	p := params{name: name}
	packed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	if err != nil {
		return p, fmt.Errorf("pipes: %s is not base64: %w", name, err)
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return p, fmt.Errorf("pipes: %s is not zlib data: %w", name, err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxContext))
	if err != nil {
		return p, fmt.Errorf("pipes: %s is not zlib data: %w", name, err)
	}
	if err := json.Unmarshal(text, &p.values); err != nil {
		return p, fmt.Errorf("pipes: %s does not hold a JSON object: %w", name, err)
	}
	if p.values == nil {
		return p, fmt.Errorf("pipes: %s holds null, want a JSON object", name)
	}
	return p, nil
}

// has reports whether the parameters have that key.
func (p params) has(key string) bool { _, ok := p.values[key]; return ok }

// text returns the string under key.
func (p params) text(key string) (string, error) {
	var s *string
	if err := json.Unmarshal(p.values[key], &s); err != nil || s == nil {
		return "", fmt.Errorf("%s: %q is %s, want a string", p.name, key, clip(string(p.values[key]), maxName))
	}
	return *s, nil
}

// flag returns the bool under key, false if the key is absent.
func (p params) flag(key string) (b bool, err error) {
	if !p.has(key) {
		return false, nil
	}
	if err := json.Unmarshal(p.values[key], &b); err != nil {
		return false, fmt.Errorf("%s: %q is %s, want true or false", p.name, key, clip(string(p.values[key]), maxName))
	}
	return b, nil
}

// blob returns the place of a blob: a bucket and the string under key, or "" and a
// path. Only a key_prefix may be null or absent.
func (p params) blob(key string) (bucket, at string, err error) {
	if !p.has("bucket") && p.has("path") {
		at, err = p.text("path")
		return "", at, err
	}
	if !p.has("bucket") {
		return "", "", fmt.Errorf(`%s has neither "bucket" nor "path"`, p.name)
	}
	if bucket, err = p.text("bucket"); err != nil {
		return "", "", err
	}
	if key == prefixKey && string(p.values[key]) == "null" || key == prefixKey && !p.has(key) {
		return bucket, "", nil
	}
	if !p.has(key) {
		return "", "", fmt.Errorf("%s has no %q", p.name, key)
	}
	at, err = p.text(key)
	return bucket, at, err
}

const prefixKey = "key_prefix"

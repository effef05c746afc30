package pipestest

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
)

// Pack encodes v as Dagster encodes the value of a variable. A string is taken for
// JSON.
func Pack(v any) (string, error) {
	text, ok := v.(string)
	if !ok {
		encoded, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		text = string(encoded)
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// Context returns the context of a step that makes these assets, as Dagster sends it.
func Context(assets ...string) map[string]any {
	c := map[string]any{
		"asset_keys": nil, "code_version_by_asset_key": nil, "provenance_by_asset_key": nil,
		"partition_key": nil, "partition_key_range": nil, "partition_time_window": nil,
		"run_id": "run-1", "job_name": "job", "retry_number": 0, "extras": map[string]any{},
	}
	if len(assets) > 0 {
		c["asset_keys"] = assets
	}
	return c
}

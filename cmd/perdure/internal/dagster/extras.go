package dagster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// extra is the name of the extra that is about us, and runRetry the one in it
// that is no parameter of a policy: the number of the run among its retries, in
// which the step's own number begins from 0 again.
const (
	extra    = "perdure"
	source   = "extras." + extra
	runRetry = "run_retry"
)

// ApplyExtras puts what the step says of the policy above the flags: what its extras
// set, and how often it was tried before.
func (s *Session) ApplyExtras(f *policy.Flags) error {
	if s == nil {
		return nil
	}
	values := map[string]json.RawMessage{}
	if text, ok := s.pipes.Context.Extras[extra]; ok && json.Unmarshal(text, &values) != nil {
		return setting.Bad(source, json.Number(text), `an object, as {"max_attempts": 3}`)
	}
	before := s.pipes.Context.RetryNumber
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		switch {
		case string(value) == "null": // as a tag that is not there
		case name == runRetry:
			n, err := times(value)
			if err != nil {
				return err
			}
			before += n
		default:
			if err := f.Override(source, name, value); err != nil {
				return err
			}
		}
	}
	f.Rerun(before)
	if before > 0 {
		_ = s.pipes.Log(slog.LevelInfo, fmt.Sprintf(
			"Re-run %d: max_attempts halved %d times, unless it is set", before, before))
	}
	return nil
}

// times reads the number of a retry, which is text in a tag.
func times(value json.RawMessage) (int, error) {
	text, err := setting.Scalar(value, false)
	n, failed := strconv.Atoi(text)
	if err != nil || failed != nil || n < 0 {
		return 0, setting.Bad(source+"."+runRetry, json.Number(value), "the number of a retry, from 0, or null")
	}
	return n, nil
}

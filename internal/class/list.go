package class

import (
	"slices"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Default is the entry of retry_on that stands for all errors that the other rules retry.
const Default = "default"

// WantRetryOn describes the allowed entries of retry_on.
const WantRetryOn = "timeout, connection, throttled, conflict, default, " + wantEntry

// WantIgnoreOn describes the allowed entries of ignore_on.
const WantIgnoreOn = "timeout, connection, throttled, conflict, " + wantEntry

const wantEntry = "an HTTP status from 300 to 599, 4xx, 5xx, an SQLSTATE such as 40001, or an error code such as SlowDown (with a capital or one of . _ : # / -)"

// CheckRetryOn reports whether retry_on may contain entry. If not, nearest is a similar entry that is allowed, or "".
func CheckRetryOn(entry string) (nearest string, ok bool) {
	if entry == Default || allowed(entry) {
		return "", true
	}
	return nearestTo(entry, []string{"timeout", "connection", "throttled", "conflict", Default}), false
}

// CheckIgnoreOn is CheckRetryOn for ignore_on.
func CheckIgnoreOn(entry string) (nearest string, ok bool) {
	if allowed(entry) {
		return "", true
	}
	return nearestTo(entry, []string{"timeout", "connection", "throttled", "conflict"}), false
}

// allowed reports whether entry is a word, a status, an SQLSTATE or a code. A code has a capital letter or a separator,
// so that a misspelled word is not taken for a code.
func allowed(entry string) bool {
	switch entry {
	case "timeout", "connection", "throttled", "conflict", "4xx", "5xx":
		return true
	}
	switch {
	case strings.Trim(entry, "0123456789") == "":
		return isStatus(entry) || len(entry) == 5
	case isCode(entry):
		return !isRange(entry) && !spells(entry, "timeout") && !spells(entry, "connection") &&
			!spells(entry, "throttled") && !spells(entry, "conflict") && !spells(entry, Default)
	}
	return false
}

// isRange reports whether entry is like 5XX.
func isRange(entry string) bool {
	return len(entry) == 3 && entry[0] >= '0' && entry[0] <= '9' && strings.EqualFold(entry[1:], "xx")
}

// nearestTo returns the allowed entry that is most similar to entry, or "".
func nearestTo(entry string, words []string) string {
	if isRange(entry) && entry[0] != '4' && entry[0] != '5' {
		return ""
	} else if isRange(entry) {
		return entry[:1] + "xx"
	}
	if state := strings.ToUpper(entry); len(entry) == 5 && entry[0] <= '9' && isCode(state) {
		return state
	}
	for _, word := range words {
		if spells(entry, word) {
			return word
		}
	}
	return setting.Nearest(entry, words)
}

// isStatus reports whether a number is an HTTP status from 300 to 599.
func isStatus(digits string) bool {
	return len(digits) == 3 && digits[0] >= '3' && digits[0] <= '5'
}

// separators are the characters of a code besides letters and digits.
const separators = "._:#/-"

// maxCode is the maximum length of a code in a list.
const maxCode = 128

// isCode reports whether entry looks like an error code, or an SQLSTATE.
func isCode(entry string) bool {
	distinct, letters := false, false // from a word
	for _, r := range entry {
		switch {
		case r >= 'A' && r <= 'Z':
			distinct, letters = true, true
		case r >= 'a' && r <= 'z':
			letters = true
		case strings.ContainsRune(separators, r):
			distinct = true
		case r < '0' || r > '9':
			return false
		}
	}
	return distinct && letters && len(entry) <= maxCode
}

// spells reports whether entry is word, which is in lower case, apart from case and separators.
func spells(entry, word string) bool {
	for i := range len(entry) {
		switch c := entry[i]; {
		case strings.IndexByte(separators, c) >= 0:
		case word == "" || c != word[0] && c|0x20 != word[0]:
			return false
		default:
			word = word[1:]
		}
	}
	return word == ""
}

// Listed reports whether an entry of list names err, by a word, code, HTTP status or SQLSTATE. f are the findings of err,
// and c is its class. timedOut says that err ended an attempt which had reached its timeout.
func (f *Findings) Listed(list []string, err error, c Class, timedOut bool) bool {
	return slices.Contains(list, "timeout") && (timedOut && c == Transient || f.IsTimeout()) ||
		slices.Contains(list, "connection") && f.IsConnection() ||
		slices.Contains(list, "throttled") && c == Throttled ||
		slices.Contains(list, "conflict") && c == Conflict ||
		unwrap.Any(err, func(err error) bool { return names(list, err) })
}

// names reports whether list contains the code, the status or the SQLSTATE of err itself.
func names(list []string, err error) bool {
	if e, ok := err.(stater); ok && slices.Contains(list, e.SQLState()) {
		return true
	}
	if e, ok := err.(coder); ok {
		code := e.ErrorCode()
		if slices.Contains(list, code) || isStatus(code) && namesStatus(list, code) {
			return true
		}
	}
	e, ok := err.(statuser)
	return ok && namesStatus(list, strconv.Itoa(e.HTTPStatusCode()))
}

func namesStatus(list []string, status string) bool {
	return slices.Contains(list, status) || isStatus(status) && slices.Contains(list, status[:1]+"xx")
}

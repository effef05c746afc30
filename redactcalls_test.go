package perdure_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// redacts holds each file that takes secrets out of text, and why no type has done so before: the text is made there of
// what is not ours, or goes out there. What an event, an error of this module or a breaker holds is clean when it is made.
var redacts = map[string]string{
	"circuit/breaker.go":                        "the name of a breaker, as it is made",
	"retry/event.go":                            "operation and errors of an event, as it is made, and as one is printed that others have made",
	"retry/errors.go":                           "an Error holds the last error as the operation returned it, and prints it",
	"internal/shown/shown.go":                   "what net/http quotes of a request and its response; the address of a request in an error or event, as it is made",
	"httpretry/errors.go":                       "a BodyError holds errors as they were, and prints them",
	"hedge/hedge.go":                            "the name in an event, as the event is made",
	"fallback/fallback.go":                      "errors of an event, as it is made; an Error holds both errors as they were returned, and prints them",
	"httpretry/resume.go":                       "the break in an event, as the event is made",
	"awsretry/response.go":                      "what a service sends back of a request",
	"awsretry/objects/store.go":                 "the endpoint, as it is written into state files",
	"redisstore/options.go":                     "a URL that an error names, as that is made",
	"redisstore/check.go":                       "what a server says",
	"internal/setting/setting.go":               "a value that is refused, as the error is made",
	"pipes/log.go":                              "messages of the program's own, on their way to a log",
	"pipes/report.go":                           "messages of the program's own, on their way to Dagster, before they are cut to its length",
	"pipes/run.go":                              "an error of the program's own, on its way to a terminal",
	"pipes/session.go":                          "an error of a channel, on its way to a terminal",
	"sqlretry/tx.go":                            "an AmbiguousError holds errors as they were, and prints them",
	"retrytest/chaos/chaos.go":                  "the key of a rule, as the rule is printed; a rule that is refused",
	"retrytest/chaos/fault.go":                  "a fault that is refused, as the error is made",
	"internal/meter/meter.go":                   "labels of metrics, as they are made",
	"pipes/encode.go":                           "all text that goes to Dagster; before it is cut, too, for half a URL is none",
	"policy/yamlfile/file.go":                   "lines of a YAML file that an error quotes",
	"policy/settings.go":                        "a name that becomes a key, as it is read",
	"cmd/perdure/internal/report/report.go":     "attributes of all loggers, on their way out",
	"cmd/perdure/internal/report/plain.go":      "all plain text, on its way to a terminal",
	"cmd/perdure/internal/endpoint/explain.go":  "errors of all clients, on their way to a terminal",
	"cmd/perdure/internal/endpoint/parse.go":    "an argument of the command, as an error names it",
	"cmd/perdure/internal/endpoint/http.go":     "an argument of the command, as it is shown",
	"cmd/perdure/internal/endpoint/s3.go":       "an endpoint that may be refused for the secrets in it, and is named then",
	"cmd/perdure/internal/request/excerpt.go":   "what a server says of a request, which it may repeat",
	"cmd/perdure/internal/proxy/failure.go":     "an error of any transport, on its way to a client",
	"cmd/perdure/internal/proxy/s3/response.go": "what a store sends back of the signed request, on its way to a client",
	"cmd/perdure/internal/state/row.go":         "keys that other programs have made",
	"cmd/perdure/internal/state/state.go":       "an argument of the command, to find the key that was made of it",
}

// Secrets are taken out once, where text comes from, and at the borders: a call in another file wants a reason here.
// TestSecretsStaySecret in cmd/perdure looks for secrets in all that comes out.
func TestSecretsAreTakenOutForAReason(t *testing.T) {
	left := maps.Clone(redacts)
	call := regexp.MustCompile(`\bredact\.(String|Message|Error|FromHeader|Secrets)\b`)
	eachFile(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/redact/") {
			return
		}
		text, err := os.ReadFile(name)
		if err != nil || !call.Match(text) {
			return
		}
		if redacts[name] == "" {
			t.Errorf("%s takes secrets out of text: make it a type's matter, or say here why not", name)
		}
		delete(left, name)
	})
	for _, name := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("%s takes no secrets out of text any more", name)
	}
}

// No text of the command's own looks like a secret: redaction would take its examples and words out of errors. Help is not redacted.
func TestOwnTextsStay(t *testing.T) {
	eachFile(t, func(name string) {
		if !strings.HasPrefix(name, "cmd/perdure/") || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if of, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := of.Key.(*ast.Ident); ok && key.Name == "Example" {
					return false
				}
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, _ := strconv.Unquote(lit.Value); strings.Contains(text, " ") && redact.String(text) != text {
					t.Errorf("%s: %q would be shown as %q", name, text, redact.String(text))
				}
			}
			return true
		})
	})
}

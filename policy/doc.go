// Package policy reads named policies from a YAML file.
package policy

package config

import (
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// snakeCaseKeys rewrites the CamelCase keys at the top of a YAML document to snake_case, in place, so that lines stay what they were.
func snakeCaseKeys(raw []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return raw, nil
	}
	lines := strings.SplitAfter(string(raw), "\n")
	pairs := doc.Content[0].Content
	for i := 0; i < len(pairs); i += 2 {
		key := pairs[i]
		if key.Kind != yaml.ScalarNode || key.Value == "" || !unicode.IsUpper(rune(key.Value[0])) {
			continue
		}
		line := lines[key.Line-1]
		at := key.Column - 1
		if strings.HasPrefix(line[at:], key.Value) {
			lines[key.Line-1] = line[:at] + snake(key.Value) + line[at+len(key.Value):]
		}
	}
	return []byte(strings.Join(lines, "")), nil
}

// snake turns VCenterURL into vcenter_url: a word begins at an upper-case letter that follows a lower-case one, or that precedes one
// within a run of capitals. VCenter is one word.
func snake(camel string) string {
	if rest, ok := strings.CutPrefix(camel, "VCenter"); ok {
		return strings.TrimSuffix("vcenter_"+snake(rest), "_")
	}
	var b strings.Builder
	runes := []rune(camel)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || (i+1 < len(runes) && unicode.IsLower(runes[i+1]))) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

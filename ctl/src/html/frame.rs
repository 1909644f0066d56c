//! Outputs that run something, each in a frame of an origin of its own.

use super::escape;
use super::outputs::Needs;
use super::tokens::{Token, tokens};

/// Where scripts come from that outputs load; a page that is sent to somebody loads none.
const NETWORKS: [&str; 7] = [
    "cdn.jsdelivr.net",
    "unpkg.com",
    "cdnjs.cloudflare.com",
    "cdn.bokeh.org",
    "cdn.plot.ly",
    "esm.sh",
    "code.jquery.com",
];

/// Tells the page how tall the content is; also by the clock, as browsers leave alone what nobody sees, and
/// a page that is printed was perhaps never scrolled. It stands first in the document, where nothing in
/// the output can swallow it.
const PRELUDE: &str = "<!DOCTYPE html><meta charset=\"utf-8\"><style>body{margin:.3rem .9rem;\
    font:14px/1.5 system-ui,sans-serif;color:#24292f;background:#fff}table{border-collapse:collapse}\
    td,th{padding:.25rem .75rem;text-align:right}@media print{html{overflow:hidden}}</style>\
    <script>{const tell=()=>parent.postMessage({cellblockHeight:\
    document.documentElement.getBoundingClientRect().height+8},'*');\
    addEventListener('message',tell);addEventListener('load',()=>{[0,100,500,2000].forEach(t=>setTimeout(tell,t));\
    new ResizeObserver(tell).observe(document.documentElement)})}</script><body>";

/// HTML that wants more than the allow-list has.
pub(super) fn html(html: &str, needs: &mut Needs) -> String {
    needs.frames += 1;
    let document = format!("{PRELUDE}{html}");
    let frame = format!(
        "<iframe class=\"output\" sandbox=\"allow-scripts\" srcdoc=\"{}\"></iframe>",
        escape(&document)
    );
    frame + &missing(html)
}

/// A script for a notebook, where `element` is the place of its output.
pub(super) fn script(code: &str, needs: &mut Needs) -> String {
    let code = code.replace("</script", "<\\/script");
    let document = format!(
        "<div id=\"output\"></div><script>const element = document.getElementById('output');\n{code}\n</script>"
    );
    html(&document, needs)
}

/// A document for which page.js puts Bokeh's library into the frame: the page carries it once.
pub(super) fn with_bokeh(body: &str, needs: &mut Needs) -> String {
    needs.frames += 1;
    needs.bokeh_plots += 1;
    let document = escape(&format!("{PRELUDE}<meta name=\"library\">{body}"));
    format!("<iframe class=\"output\" sandbox=\"allow-scripts\" data-document=\"{document}\"></iframe>")
}

/// What the reader must know when the output loads scripts from somewhere.
fn missing(html: &str) -> String {
    match remote_host(html) {
        None => String::new(),
        Some(host) => format!(
            "<p class=\"note\">This output loads scripts from {}, which a page that works without a network \
             does not: it may be empty here.</p>",
            escape(&host)
        ),
    }
}

fn remote_host(html: &str) -> Option<String> {
    tokens(html).find_map(|token| {
        let Token::Raw(tag, content) = token else { return None };
        let source = tag.get("src");
        let rest = ["https://", "http://", "//"].iter().find_map(|start| source.strip_prefix(start));
        match (tag.name.as_str(), rest) {
            ("script", Some(rest)) => Some(rest.split('/').next()?.chars().take(100).collect()),
            ("script", None) => NETWORKS
                .iter()
                .find(|host| content.contains(&format!("//{host}/")))
                .map(|host| (*host).into()),
            // A map of folium's is a whole document in an attribute.
            ("iframe", _) => remote_host(tag.get("srcdoc")),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_needs_the_network_says_so() {
        for (output, host) in [
            ("<script src='https://cdn.example.org/a.js'></script>", Some("cdn.example.org")),
            ("<script>import('https://esm.sh/x')</script>", Some("esm.sh")),
            (
                "<iframe srcdoc=\"&lt;script src=&quot;//x.org/a&quot;&gt;&lt;/script&gt;\"></iframe>",
                Some("x.org"),
            ),
            ("<script>fetch('https://example.org')</script>", None),
        ] {
            assert_eq!(remote_host(output).as_deref(), host, "{output}");
            let page = html(output, &mut Needs::default());
            assert_eq!(page.contains("class=\"note\""), host.is_some(), "{page}");
        }
    }

    #[test]
    fn a_script_runs_in_a_frame_only() {
        let page = script("element.append('</script><script>parent.x')", &mut Needs::default());
        assert_eq!(page.matches("<script").count(), 0, "{page}");
        assert!(page.contains("&lt;\\/script&gt;&lt;script&gt;parent.x"), "{page}");
    }
}

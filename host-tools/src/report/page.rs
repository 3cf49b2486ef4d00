//! The HTML page: one file with its data, styles and scripts, which loads nothing.

use super::data::ReportData;

const STYLE: &str = include_str!("page/style.css");
const SCRIPTS: [&str; 8] = [
    include_str!("page/base.js"),
    include_str!("page/scatter.js"),
    include_str!("page/path.js"),
    include_str!("page/card.js"),
    include_str!("page/table.js"),
    include_str!("page/trace.js"),
    include_str!("page/training.js"),
    include_str!("page/main.js"),
];
const BODY: &str = include_str!("page/body.html");

/// The page that shows `data`.
///
/// # Errors
/// [`serde_json::Error`] if the data has no JSON form.
pub fn render(data: &ReportData) -> Result<String, serde_json::Error> {
    let json = inert(&serde_json::to_string(data)?);
    let title = escaped(&data.name);
    let scripts = SCRIPTS.join("\n");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}: networks of the family</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{BODY}\
         <script type=\"application/json\" id=\"data\">{json}</script>\n\
         <script>\n\"use strict\";\n(() => {{\n{scripts}}})();\n</script>\n</body>\n</html>\n"
    ))
}

/// JSON that cannot end its script element.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::data::SCHEMA_VERSION;

    fn data(name: &str) -> ReportData {
        ReportData {
            schema_version: SCHEMA_VERSION,
            name: name.to_owned(),
            input: [8, 8, 1],
            bundle_bytes: 1,
            ranking_images: None,
            evaluation_images: None,
            stages: Vec::new(),
            anchors: Vec::new(),
            networks: Vec::new(),
            boards: Vec::new(),
            traces: Vec::new(),
            training: None,
        }
    }

    #[test]
    fn names_cannot_leave_their_place_and_nothing_is_loaded() {
        let page = render(&data("</script><script>alert(1)</script>")).unwrap();
        assert!(!page.contains("alert(1)</script>"));
        assert_eq!(page.matches("<script").count(), 2);
        for address in ["http:", "https:", "//cdn", "@import", "url("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(address), "{address}");
        }
    }

    #[test]
    fn the_data_in_the_page_is_the_data_given() {
        let given = data("a <b> \u{2028} &");
        let page = render(&given).unwrap();
        let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = start + page[start..].find("</script>").unwrap();
        assert_eq!(serde_json::from_str::<ReportData>(&page[start..end]).unwrap(), given);
    }
}

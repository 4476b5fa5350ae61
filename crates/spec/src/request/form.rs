//! Bodies of the type `application/x-www-form-urlencoded`, read into the object that their schema describes.

use super::{
    compile::MediaRules,
    json::Document,
    parameters::{Form, FormStyle, Pairs, Shape, Unreadable, decode},
    schema::Types,
};

/// Reads a form. A field that the schema does not name is a text, or an array of texts when it is there repeatedly.
pub(super) fn read(media: &MediaRules, text: &str) -> Result<Document<'static>, Unreadable> {
    let pairs = Pairs::parse(text)?;
    let mut names: Vec<&str> = pairs.names().collect();
    names.sort_unstable();
    names.dedup();
    let mut document = Document::default();
    let opened = document.open_object();
    for name in &names {
        document.push_string((*name).to_owned());
        match media.fields.iter().find(|field| *field.name == **name) {
            Some(field) => read_field(field, &pairs, &mut document)?,
            None => {
                let is_repeated = pairs.values(name).count() > 1;
                let types = if is_repeated { Types::ARRAY } else { Types::ANY };
                let shape = Shape { types, ..Shape::default() };
                read_values(
                    &FormStyle {
                        style: super::parameters::Style::Form,
                        explode: true,
                        shape: &shape,
                    },
                    &pairs,
                    name,
                    &mut document,
                )?;
            }
        }
    }
    document.close(opened, names.len());
    Ok(document)
}

fn read_field(
    field: &Form,
    pairs: &Pairs<'_>,
    document: &mut Document<'_>,
) -> Result<(), Unreadable> {
    let is_object = field.shape.types == Types::OBJECT && !field.is_styled;
    if let (true, Some(text)) = (is_object, pairs.values(&field.name).next()) {
        // Objects are JSON unless the encoding says otherwise.
        let text = decode(text, true)?;
        if let Ok(value) = Document::parse_text(&text) {
            document.push_copy(value.root());
        } else {
            document.push_string(String::new());
        }
        return Ok(());
    }
    let style = FormStyle { style: field.style, explode: field.explode, shape: &field.shape };
    read_values(&style, pairs, &field.name, document)
}

fn read_values(
    style: &FormStyle<'_>,
    pairs: &Pairs<'_>,
    name: &str,
    document: &mut Document<'_>,
) -> Result<(), Unreadable> {
    let mut values = pairs.values(name);
    match values.next() {
        Some(first) => style.read(first, values, document),
        None => {
            document.push_null();
            Ok(())
        }
    }
}
